//! Ranks as threads of one process.
use super::*;
use crate::parallel::World;
use crate::parallel::launch::Meeting;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

fn launch(rank: usize, size: usize, meeting: &Meeting) -> Launch {
    let patience = Duration::from_secs(20);
    let (meeting, run) = (meeting.clone(), "a run".into());
    Launch { rank, size, local: size, meeting, by_mpi: false, run, patience }
}

/// A port that nobody has just now.
fn address() -> Meeting {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    Meeting::Address { host: "127.0.0.1".into(), port }
}

/// What each rank returns, or why it could not begin.
fn on_ranks<T: Send>(launches: Vec<Launch>, work: impl Fn(World) -> T + Sync) -> Vec<Result<T, RanksError>> {
    thread::scope(|scope| {
        let work = &work;
        let rank = |launch: Launch| scope.spawn(move || Ok(work(World::over(Tcp::connect(&launch)?))));
        let threads: Vec<_> = launches.into_iter().map(rank).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn all_of<T: Send>(size: usize, meeting: &Meeting, work: impl Fn(World) -> T + Sync) -> Vec<T> {
    let launches = (0..size).map(|rank| launch(rank, size, meeting)).collect();
    on_ranks(launches, work).into_iter().map(Result::unwrap).collect()
}

#[test]
fn every_part_goes_where_it_should() {
    let dir = tempfile::tempdir().unwrap();
    for (size, meeting) in [(2, address()), (4, Meeting::File(dir.path().join("note"))), (5, address())] {
        let found = all_of(size, &meeting, |world| {
            let (rank, transport) = (world.rank(), world.transport().unwrap());
            let part = |to: usize| vec![(10 * rank + to) as u8; 100_000 * (rank + to)];
            let parts: Vec<Vec<u8>> = (0..size).map(part).collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            for (from, got) in transport.all_to_all(&parts).unwrap().into_iter().enumerate() {
                assert_eq!(got, vec![(10 * from + rank) as u8; 100_000 * (rank + from)]);
            }
            transport.barrier().unwrap();
            assert_eq!(transport.broadcast(1, &[rank as u8]).unwrap(), [1]);
            assert_eq!(world.any(rank == 1), Ok(true));
            assert_eq!(world.any(false), Ok(false));
            let rows: Vec<Vec<f64>> = world.own(8).map(|i| vec![f64::NAN, i as f64 + 0.1]).collect();
            let rows = world.gather_numbers(rows).unwrap();
            (rank, rows.iter().map(|row| row[1].to_bits()).collect::<Vec<_>>(), transport.sent_bytes() > 0)
        });
        let expected: Vec<u64> = (0..8).map(|i| (f64::from(i) + 0.1).to_bits()).collect();
        for (rank, (own, rows, sent)) in found.into_iter().enumerate() {
            assert_eq!((own, &rows, sent), (rank, &expected, true));
        }
    }
    assert!(!dir.path().join("note").exists());
}

#[test]
fn an_error_of_a_rank_reaches_all_others_and_a_rank_that_is_gone_ends_them() {
    for gone in [false, true] {
        let clock = Instant::now();
        let found = all_of(3, &address(), |world| match world.rank() {
            // Ends as it should, though the others wait for it; or says why it cannot go on.
            1 if gone => None,
            1 => {
                world.abort(7, "no more paper");
                world.failure()
            }
            _ => {
                let error = world.any(true).unwrap_err();
                world.abort(1, "not the first");
                assert_eq!(world.failure().as_ref(), Some(&error));
                assert!(world.broken().unwrap().load(Ordering::Relaxed));
                Some(error)
            }
        });
        assert!(clock.elapsed() < Duration::from_secs(10));
        let expected = match gone {
            true => RanksError::Lost { rank: 1, size: 3, why: "has ended before the others".into() },
            false => RanksError::Told { rank: 1, code: 7, what: "no more paper".into() },
        };
        assert_eq!((&found[0], &found[2]), (&Some(expected.clone()), &Some(expected)));
    }
}

#[test]
fn a_rank_that_says_nothing_is_gone_after_a_while() {
    let meeting = address();
    let quick = |rank| Launch { patience: Duration::from_secs(2), ..launch(rank, 2, &meeting) };
    let silent = thread::spawn({
        let launch = quick(1);
        move || {
            let streams = meet(&launch).unwrap();
            thread::sleep(Duration::from_secs(4));
            drop(streams);
        }
    });
    let world = World::over(Tcp::connect(&quick(0)).unwrap());
    let error = world.any(false).unwrap_err().to_string();
    assert!(error.starts_with("rank 1 of 2 has said nothing for 2 s"), "{error}");
    silent.join().unwrap();
}

#[test]
fn ranks_that_wait_for_others_are_alive() {
    let meeting = address();
    let quick = |rank| Launch { patience: Duration::from_secs(2), ..launch(rank, 2, &meeting) };
    let found = on_ranks(vec![quick(0), quick(1)], |world| {
        if world.rank() == 1 {
            thread::sleep(Duration::from_secs(5));
        }
        world.any(true)
    });
    assert_eq!(found, [Ok(Ok(true)), Ok(Ok(true))]);
}

/// The errors of ranks that cannot begin.
fn refused(launches: Vec<Launch>) -> Vec<String> {
    let shown = |found: Result<(), RanksError>| found.err().map_or(String::new(), |e| e.to_string());
    on_ranks(launches, |_| ()).into_iter().map(shown).collect()
}

#[test]
fn ranks_that_do_not_belong_together_are_refused() {
    let quick = |rank, size, meeting: &Meeting| Launch {
        patience: Duration::from_secs(2),
        ..launch(rank, size, meeting)
    };
    let meeting = address();
    let errors = refused(vec![quick(0, 3, &meeting), quick(1, 3, &meeting)]);
    assert!(errors[0].starts_with("rank 2 of 3 did not come within 2 s"), "{errors:?}");
    assert!(errors[1].contains(&errors[0]), "{errors:?}");

    let meeting = address();
    let errors = refused(vec![quick(1, 2, &meeting)]);
    assert!(errors[0].starts_with("rank 1 of 2 did not find rank 0 at 127.0.0.1:"), "{errors:?}");

    let meeting = address();
    let other = Launch { run: "another".into(), ..quick(1, 2, &meeting) };
    let errors = refused(vec![quick(0, 2, &meeting), other]);
    assert!(errors[0].contains("its id is \"another\", this one's \"a run\""), "{errors:?}");
    assert!(errors[1].contains("its id is \"another\""), "{errors:?}");

    let meeting = address();
    let errors = refused(vec![quick(0, 2, &meeting), quick(1, 4, &meeting)]);
    let both = "rank 1 says that there are 4 ranks, rank 0 that there are 2";
    assert!(errors.iter().all(|error| error.contains(both)), "{errors:?}");

    let meeting = address();
    let twice = [quick(0, 3, &meeting), quick(1, 3, &meeting), quick(1, 3, &meeting)];
    let errors = refused(twice.into());
    assert!(
        errors.iter().all(|error| error.contains("two processes say that they are rank 1")),
        "{errors:?}"
    );

    // A port that something else has.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let meeting = Meeting::Address { host: "127.0.0.1".into(), port };
    let errors = refused(vec![quick(0, 2, &meeting)]);
    assert!(errors[0].contains("choose another MASTER_PORT"), "{errors:?}");
}

#[test]
fn strangers_are_not_waited_for() {
    let meeting = address();
    let Meeting::Address { port, .. } = meeting else { unreachable!() };
    let stranger = thread::spawn(move || {
        loop {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
            let _ = stream.read(&mut [0; 64]);
            return;
        }
    });
    let first = thread::spawn({
        let launch = launch(0, 2, &meeting);
        move || World::over(Tcp::connect(&launch).unwrap()).any(false)
    });
    stranger.join().unwrap();
    let second = World::over(Tcp::connect(&launch(1, 2, &meeting)).unwrap());
    assert_eq!(second.any(false), Ok(false));
    assert_eq!(first.join().unwrap(), Ok(false));
    // Nobody listens any more.
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}
