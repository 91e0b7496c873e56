//! Clients' mappings: whose port it is, and what other clients send to it.

use super::flows::{Flow, MEMBERS};
use super::history::History;
use super::protocols::{Proto, split};

fn line(from: &str, to: &str) -> String {
    let packet = Proto::Udp.packet(from, to, true, "len=5");
    format!("> {} {} {packet}", MEMBERS.port, MEMBERS.way)
}

impl History {
    /// Whether a mapping has got the port of a connection that was opened before there were mappings, to the same
    /// server: with several workers that may be, as docs/nat.md says. Neither of the two is of use then.
    pub fn is_doubled(&mut self, flow: &Flow) -> bool {
        if !flow.mapped || self.stage.rig().workers().len() == 1 {
            return false;
        }
        let earlier = self.flows.iter().find(|(_, other)| {
            let ends = (&other.source, &other.member) == (&flow.source, &flow.member);
            !other.mapped && other.is_outward() && other.proto == flow.proto && ends
        });
        let earlier = earlier.map(|(key, _)| *key);
        if let Some(key) = earlier {
            self.flows.remove(&key);
            self.over.insert(key);
        }
        earlier.is_some()
    }

    /// Returns how many packets came round.
    pub fn hairpin(&mut self, which: usize) -> usize {
        let mapped = self.flows.values();
        let mapped: Vec<&Flow> = mapped
            .filter(|flow| flow.mapped && flow.unchanged && flow.proto == Proto::Udp)
            .collect();
        if mapped.is_empty() {
            return 0;
        }
        let from = mapped[which % mapped.len()].clone();
        let to = mapped[which / mapped.len() % mapped.len()].clone();
        if from.is_v6() != to.is_v6() {
            return 0;
        }
        let pooled = self.world.is_pooled(&from.source) && self.world.is_pooled(&to.source);
        let open = self.world.mapping(&to.virtual_server) == (true, true) && pooled;
        let sent = self.sent(&line(&from.client, &to.source));
        let story = self.story.join("\n");
        let arrived = sent.iter().find_map(|(_, left)| {
            let (source, rest) = left.strip_prefix("udp ")?.split_once('>')?;
            assert!(
                split(source).0 != split(&from.client).0,
                "{left} comes from within, after\n{story}"
            );
            (rest == format!("{} len=5 ttl=62", to.client)).then(|| source.to_owned())
        });
        let Some(source) = arrived else {
            assert!(!open, "{sent:?} after\n{story}");
            return 0;
        };
        let back = self.sent(&line(&to.client, &source));
        let answer = format!("udp {}>{} len=5 ttl=62", to.source, from.client);
        assert!(
            back.iter().any(|(_, left)| *left == answer),
            "{back:?} is not {answer}, after\n{story}"
        );
        2
    }
}
