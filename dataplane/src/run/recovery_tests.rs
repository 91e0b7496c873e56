use std::collections::VecDeque;

use super::*;

/// A port that does as it is told, and writes it down.
#[derive(Default)]
struct Fake {
    told: Vec<&'static str>,
    deaf_workers: u32,
    slow_workers: u32,
    full_rings: u32,
    outcomes: VecDeque<Outcome>,
}

impl Patient for Fake {
    fn park(&mut self) -> bool {
        self.told.push("park");
        let heard = self.deaf_workers == 0;
        self.deaf_workers = self.deaf_workers.saturating_sub(1);
        heard
    }

    fn is_parked(&mut self) -> bool {
        let parked = self.slow_workers == 0;
        self.slow_workers = self.slow_workers.saturating_sub(1);
        parked
    }

    fn restart(&mut self) {
        self.told.push("restart");
    }

    fn outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    fn resume(&mut self) -> bool {
        self.told.push("resume");
        let heard = self.full_rings == 0;
        self.full_rings = self.full_rings.saturating_sub(1);
        heard
    }

    fn remove(&mut self) {
        self.told.push("remove");
    }
}

fn failed() -> Outcome {
    Outcome::Failed("no luck".to_owned())
}

/// Polls every millisecond; the news with the milliseconds at which they came.
fn watch(recovery: &mut Recovery, fake: &mut Fake, from: Instant, ms: u64) -> Vec<(u64, News)> {
    (0..ms)
        .filter_map(|at| {
            let news = recovery.poll(fake, from + Duration::from_millis(at))?;
            Some((at, news))
        })
        .collect()
}

#[test]
fn a_port_is_restarted_only_when_all_workers_have_let_go() {
    let start = Instant::now();
    let mut recovery = Recovery::new(start, Answer::Yes);
    let mut fake = Fake {
        deaf_workers: 2,
        slow_workers: 3,
        outcomes: [Outcome::Started(Answer::Yes)].into(),
        ..Fake::default()
    };
    assert_eq!(recovery.poll(&mut fake, start), None);
    assert_eq!(fake.told, [""; 0], "a port in good health is left alone");
    let news = recovery.fall_ill(Symptom::Reset, start);
    assert_eq!(news, Some(News::Parked(Symptom::Reset)));
    assert_eq!(recovery.fall_ill(Symptom::Silent, start), None);
    for _ in 0..5 {
        assert_eq!(recovery.poll(&mut fake, start), None);
        assert!(!fake.told.contains(&"restart"));
    }
    let later = start + Duration::from_millis(7);
    let news = recovery.poll(&mut fake, later);
    assert_eq!(news, Some(News::Back(Duration::from_millis(7))));
    assert_eq!(fake.told, ["park", "park", "park", "restart", "resume"]);
    assert!(recovery.is_well());
    assert_eq!(recovery.restarts_total(), 1);
}

#[test]
fn a_restart_that_fails_is_tried_again_less_and_less_often_while_the_workers_stay_away() {
    let start = Instant::now();
    let mut recovery = Recovery::new(start, Answer::Yes);
    let mut fake = Fake {
        outcomes: [
            failed(),
            Outcome::Started(Answer::Silent),
            failed(),
            Outcome::Started(Answer::Yes),
        ]
        .into(),
        ..Fake::default()
    };
    recovery.fall_ill(Symptom::Silent, start);
    let news = watch(&mut recovery, &mut fake, start, 3_000);
    let at: Vec<u64> = news.iter().map(|(at, _)| *at).collect();
    assert_eq!(at, [0, 250, 750, 1_750]);
    assert_eq!(news[1].1, News::Failed(Symptom::Silent.text().to_owned()));
    assert_eq!(news[3].1, News::Back(Duration::from_millis(1_750)));
    let resumes = fake.told.iter().filter(|told| **told == "resume");
    assert_eq!(resumes.count(), 1);
    assert_eq!(pause(1_000_000), LONGEST_PAUSE);
}

#[test]
fn a_port_that_falls_ill_again_at_once_is_given_a_pause() {
    let start = Instant::now();
    let mut recovery = Recovery::new(start, Answer::Yes);
    let mut fake = Fake::default();
    for (round, expected) in [0, 250, 500].into_iter().enumerate() {
        fake.outcomes.push_back(Outcome::Started(Answer::Yes));
        let from = start + Duration::from_secs(2 * round as u64);
        recovery.fall_ill(Symptom::Reset, from);
        let news = watch(&mut recovery, &mut fake, from, 1_000);
        assert_eq!(
            news,
            [(expected, News::Back(Duration::from_millis(expected)))]
        );
    }
    fake.outcomes.push_back(Outcome::Started(Answer::Yes));
    let much_later = start + Duration::from_mins(1);
    recovery.fall_ill(Symptom::Reset, much_later);
    let news = recovery.poll(&mut fake, much_later);
    assert_eq!(news, Some(News::Back(Duration::ZERO)));
}

#[test]
fn a_physical_function_that_refuses_after_every_restart_has_its_reasons() {
    let start = Instant::now();
    let mut recovery = Recovery::new(start, Answer::Yes);
    let mut fake = Fake {
        outcomes: (0..3).map(|_| Outcome::Started(Answer::Refused)).collect(),
        ..Fake::default()
    };
    assert_eq!(recovery.judge(Answer::Refused), Some(Symptom::Refused));
    recovery.fall_ill(Symptom::Refused, start);
    let news = watch(&mut recovery, &mut fake, start, 3_000);
    assert!(matches!(news.last(), Some((_, News::Back(_)))), "{news:?}");
    assert_eq!(recovery.judge(Answer::Refused), None);
    assert_eq!(
        Recovery::new(start, Answer::Refused).judge(Answer::Refused),
        None
    );
    // Once it has agreed, a refusal means something again.
    assert_eq!(recovery.judge(Answer::Yes), None);
    assert_eq!(recovery.judge(Answer::Refused), Some(Symptom::Refused));
    assert_eq!(recovery.judge(Answer::Silent), Some(Symptom::Silent));
    assert_eq!(recovery.judge(Answer::NotAsked), None);
}

#[test]
fn a_device_that_is_pulled_out_goes_whatever_is_under_way() {
    let start = Instant::now();
    for under_way in 0..3 {
        let mut recovery = Recovery::new(start, Answer::Yes);
        let mut fake = Fake::default();
        if under_way > 0 {
            recovery.fall_ill(Symptom::Silent, start);
            recovery.poll(&mut fake, start);
        }
        if under_way > 1 {
            fake.outcomes.push_back(failed());
            recovery.poll(&mut fake, start);
        }
        recovery.pull_out();
        fake.outcomes.push_back(failed());
        assert_eq!(
            recovery.poll(&mut fake, start),
            Some(News::Gone),
            "{under_way}"
        );
        assert_eq!(fake.told.last(), Some(&"remove"));
        assert!(!fake.told.contains(&"resume"));
        assert!(recovery.is_gone());
        assert_eq!(recovery.poll(&mut fake, start), None);
        assert_eq!(recovery.fall_ill(Symptom::Reset, start), None);
    }
}

#[test]
fn a_device_that_is_pulled_out_while_workers_are_about_to_take_it_up_again_is_let_go_of() {
    let start = Instant::now();
    let mut recovery = Recovery::new(start, Answer::Yes);
    let mut fake = Fake {
        full_rings: 1,
        outcomes: [Outcome::Started(Answer::Yes)].into(),
        ..Fake::default()
    };
    recovery.fall_ill(Symptom::Reset, start);
    assert_eq!(recovery.poll(&mut fake, start), None);
    assert_eq!(fake.told, ["park", "restart", "resume"]);
    recovery.pull_out();
    assert_eq!(recovery.poll(&mut fake, start), Some(News::Gone));
    assert_eq!(fake.told[3..], ["park", "remove"]);
}
