//! The world that the other tests stand on: machines that reach each other, and an end that leaves nothing.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use cordon::demo::world::Launch;
use rustix::process::Signal;

#[test]
fn machines_reach_each_other_and_keep_connections() {
    support::in_world(async |mut world| {
        let (first, second) = (world.machine("first").await?, world.machine("second").await?);
        second.listen(8080).await?;
        for address in second.addresses() {
            let to = SocketAddr::new(*address, 8080);
            let probe = first.probe(to).await?;
            assert!(probe.reachable, "{to}: {}", probe.reason);
            first.hold("line", to).await?;
            assert!(first.held("line").await?.reachable);
        }
        let closed = SocketAddr::new(second.address(), 8081);
        assert!(!first.probe(closed).await?.reachable);
        Ok(())
    });
}

#[test]
fn processes_are_watched_and_die_with_their_machine() {
    support::in_world(async |mut world| {
        let machine = world.machine("first").await?;
        let shell = |script: &str| Launch::program("/bin/sh", ["-c", script]);
        machine
            .spawn(
                "ready",
                shell("echo '{\"ready\":true,\"port\":7}'; exec sleep 1000"),
            )
            .await?;
        let said = machine.ready("ready", Duration::from_secs(10)).await?;
        assert_eq!(said["port"], 7);
        machine.kill("ready").await?;

        machine
            .spawn("failing", shell("echo trouble >&2; exit 3"))
            .await?;
        let error = machine
            .ready("failing", Duration::from_secs(10))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("exit code 3") && error.contains("trouble"),
            "{error}"
        );

        // Its process id as the outside sees it: the shell writes what /proc says of it here.
        let output = machine
            .run(shell("echo out; echo err >&2; exit 5"), Duration::from_secs(10))
            .await?;
        assert_eq!(
            (output.exit.code, output.stdout.trim(), output.stderr.trim()),
            (Some(5), "out", "err")
        );

        // Found from the outside by its arguments: inside a machine it has another process id.
        let marker = format!("cordon-world-test-{}", std::process::id());
        machine
            .spawn(
                "left",
                Launch::program("/bin/sh", ["-c", "while :; do sleep 1; done", &marker]),
            )
            .await?;
        let found = cordon::demo::world::level("the process", Duration::from_secs(10), async || {
            let found = with_argument(&marker);
            Ok(if found.is_empty() {
                Err("none".to_owned())
            } else {
                Ok(found)
            })
        });
        assert!(!found.await?.is_empty());
        drop(machine);
        assert_eq!(
            with_argument(&marker),
            Vec::<i32>::new(),
            "a process outlived its machine"
        );
        Ok(())
    });
}

/// Processes that have this argument.
fn with_argument(argument: &str) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                line.split(|byte| *byte == 0)
                    .any(|word| word == argument.as_bytes())
            })
        })
        .collect()
}

#[test]
fn a_signal_reaches_a_process() {
    support::in_world(async |mut world| {
        let machine = world.machine("first").await?;
        machine
            .spawn("sleeper", Launch::program("/bin/sleep", ["1000"]))
            .await?;
        machine.signal("sleeper", Signal::TERM).await?;
        let exit = machine.wait("sleeper", Duration::from_secs(10)).await?;
        assert_eq!(exit.signal, Some(Signal::TERM.as_raw()));
        Ok(())
    });
}
