//! The command line of `tmm-pktgen`: opens the ports, runs the session, shows the outcome.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser as _;
use dataplane::run::args::LogFormat;
use dataplane::run::init_logging;
use dpdk::HugePages;
use net::{MacAddr, Timestamp, VlanId};

use super::args::CommandLine;
use super::client::Job;
use super::flows::Proto;
use super::mix::Mix;
use super::options::{HugepagesArg, ModeArg, OrderArg};
use super::ports::{self, DpdkLink, Ports, PortsConfig};
use super::report::{Report, Run, Test, Verdict};
use super::session::{Session, World};
use super::setup::{Mode, Setup};
use super::trial::{Order, Progress};
use super::units::{nanos, scaled, span};

/// How long links may take to come up.
const LINK_PATIENCE: Duration = Duration::from_secs(10);

/// The machine's clock, the user's wish to stop, and standard error.
struct Outside {
    start: Instant,
    stop: Arc<AtomicBool>,
    quiet: bool,
}

impl World for Outside {
    #[inline]
    fn now(&mut self) -> Timestamp {
        Timestamp::from_nanos(nanos(self.start.elapsed()))
    }

    #[inline]
    fn stopped(&mut self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn progress(&mut self, progress: &Progress) {
        if self.quiet {
            return;
        }
        // Nobody may be reading.
        let _ = writeln!(
            std::io::stderr(),
            "{:<14} {:>5.1} s  sent {:>10}/s  back {:>10}/s  out {:>7}  p50 {:>9}  p99 {:>9}  faulty {}",
            progress.phase,
            progress.elapsed.as_secs_f64(),
            scaled(progress.sent_per_second),
            scaled(progress.received_per_second),
            progress.outstanding,
            span(progress.p50_ns),
            span(progress.p99_ns),
            progress.faulty,
        );
    }
}

/// Carries out the command line.
pub fn main() -> ExitCode {
    let args = CommandLine::parse();
    match run(&args) {
        Ok(Verdict::Good | Verdict::Stopped) => ExitCode::SUCCESS,
        Ok(Verdict::Faulty) => ExitCode::from(3),
        Ok(Verdict::Nothing) => ExitCode::from(4),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "tmm-pktgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &CommandLine) -> Result<Verdict, Box<dyn std::error::Error>> {
    init_logging(&args.log, LogFormat::Human)?;
    let mixes = args.mixes()?;
    // What is wrong with the arguments shows before any port is opened.
    for mix in &mixes {
        // Whether both sides have one station on a shared port is known by then too.
        args.setup(mix, [MacAddr::ZERO; 2])?
            .check(args.server.is_none())?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends it the hard way.
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let largest = mixes.iter().map(Mix::largest).max().unwrap_or(64);
    let (ports, links) = ports::open(&PortsConfig {
        client: args.client.clone(),
        server: args.server.clone(),
        // Without Ethernet header and check sequence; a tag is not counted by devices either.
        mtu: largest.saturating_sub(18).max(1500),
        hugepages: match args.hugepages {
            HugepagesArg::Auto => HugePages::Auto,
            HugepagesArg::Never => HugePages::Never,
            HugepagesArg::Required => HugePages::Required,
        },
        mbufs: args.mbufs,
        eal_args: args.eal_args.clone(),
    })?;
    if let Some(cpu) = args.cpu {
        dpdk::pin_to_cpu(cpu)?;
    }
    let up = ports.await_links(LINK_PATIENCE, || stop.load(Ordering::Relaxed));
    if !up && !args.quiet {
        let _ = writeln!(
            std::io::stderr(),
            "a link is still down after {} s; going on",
            LINK_PATIENCE.as_secs()
        );
    }
    let report = measure(args, &mixes, &ports, links, &stop)?;
    show(args, &report)?;
    Ok(report.verdict)
}

/// Runs all trials.
fn measure(
    args: &CommandLine,
    mixes: &[Mix],
    ports: &Ports,
    links: Vec<DpdkLink>,
    stop: &Arc<AtomicBool>,
) -> Result<Report, Box<dyn std::error::Error>> {
    let macs = [ports.mac(0), ports.mac(1)];
    let start = Instant::now();
    let first = mixes.first().ok_or("no frame size")?;
    let setup = args.setup(first, macs)?;
    let mut links = links.into_iter();
    let client_link = links.next().ok_or("no port")?;
    let engine = setup.engine(client_link, links.next())?;
    let world = Outside {
        start,
        stop: Arc::clone(stop),
        quiet: args.quiet,
    };
    let one_way = setup.mode == Mode::OneWay;
    let mut session = Session::new(engine, world, args.timing(), one_way);
    let mut runs = Vec::new();
    session.resolve()?;
    for mix in mixes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let setup = args.setup(mix, macs)?;
        session.engine_mut().set_mix(&setup.mix);
        let outcome = one_run(args, &setup, &mut session);
        match outcome {
            Ok(run) => runs.push(run),
            // Without an open flow, later sizes would fare no better; what was measured counts.
            Err(error) if runs.is_empty() => return Err(error),
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "tmm-pktgen: {error}");
                break;
            }
        }
    }
    let stopped = stop.load(Ordering::Relaxed);
    let verdict = Report::judge(&runs, stopped);
    let (client, server) = (session.engine().client(), session.engine().server());
    let faulty_frames = [client.samples(), server.samples()]
        .iter()
        .flat_map(|samples| samples.lines().to_vec())
        .collect();
    let tag = |vlan: Option<VlanId>| vlan.map(VlanId::get);
    Ok(Report {
        generator: format!("tmm-pktgen {}", env!("CARGO_PKG_VERSION")),
        dpdk: dpdk::version(),
        test: Test {
            mode: match args.mode {
                ModeArg::Balance => "balance",
                ModeArg::OneWay => "one-way",
                ModeArg::Loop => "loop",
            }
            .to_owned(),
            protocol: setup.proto.to_string(),
            flows: args.flows,
            order: match args.order {
                OrderArg::Sequential => "sequential",
                OrderArg::Random => "random",
            }
            .to_owned(),
            client_port: args.client.to_string(),
            server_port: args.server.as_ref().map(ToString::to_string),
            client_vlan: tag(args.client_vlan),
            server_vlan: tag(args.server_vlan),
            memory: if ports.uses_hugepages() {
                "hugepages"
            } else {
                "4 KiB pages"
            }
            .to_owned(),
        },
        runs,
        faulty_frames,
        stopped,
        verdict,
    })
}

/// Opens the flows, runs the trials of one mix, closes the flows.
fn one_run(
    args: &CommandLine,
    setup: &Setup,
    session: &mut Session<DpdkLink, Outside>,
) -> Result<Run, Box<dyn std::error::Error>> {
    let job = if args.connections {
        Job::Connect
    } else {
        Job::Data
    };
    let opens = setup.mode != Mode::OneWay
        && !matches!(setup.mode, Mode::Loop(_))
        && !args.connections
        && (setup.proto == Proto::Udp || setup.handshake);
    let opening = if opens {
        Some(session.open()?)
    } else {
        session.engine_mut().client_mut().declare(!args.connections);
        None
    };
    let mean = session.engine().client().mean_size();
    let order = |phase: &str, rate: Option<f64>| Order {
        phase: phase.to_owned(),
        job,
        rate,
        duration: args.duration,
    };
    let mut trials = Vec::new();
    let mut found = None;
    if args.search {
        let config = args.search_config(mean);
        let result = session.search(config, job, args.duration, |trial| trials.push(trial));
        if let Some(highest) = result.packets_per_second {
            for percent in &args.loads {
                if session.world_mut().stopped() {
                    break;
                }
                let rate = highest * f64::from(*percent) / 100.0;
                trials.push(session.trial(&order(&format!("{percent} %"), Some(rate))));
            }
        }
        found = Some(result);
    } else if let Some(ramp) = &args.ramp {
        for rate in ramp.rates(mean) {
            if session.world_mut().stopped() {
                break;
            }
            trials.push(session.trial(&order("ramp", Some(rate))));
        }
    } else {
        trials.push(session.trial(&order("load", args.rate.packets_per_second(mean))));
    }
    if opens && setup.proto == Proto::Tcp {
        session.close();
    }
    let mix = &setup.mix;
    Ok(Run {
        size: mix.name().to_owned(),
        octets: mix.pattern().to_vec(),
        mean_octets: mean,
        opening,
        trials,
        found,
    })
}

/// Shows the outcome where it was asked for.
fn show(args: &CommandLine, report: &Report) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(directory) = &args.plot {
        for path in super::plot::write(report, directory)? {
            let _ = writeln!(std::io::stderr(), "wrote {}", path.display());
        }
    }
    let text = match &args.json {
        None => report.text(),
        Some(path) => {
            let json = serde_json::to_string_pretty(report)? + "\n";
            if path == Path::new("-") {
                json
            } else {
                std::fs::write(path, json)
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
                report.text()
            }
        }
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(())
}
