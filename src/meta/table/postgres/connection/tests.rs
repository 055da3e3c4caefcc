use std::future::pending;

use tokio::time::{sleep, timeout};

use super::*;
use crate::types::table_url::TableUrl;

#[test]
fn notifications_only_go_up() {
    let listeners = Mutex::new(BTreeMap::from([("a".to_owned(), watch::Sender::new(0))]));
    let revision = || *listeners.lock()["a"].borrow();
    for (payload, expected) in [("a 5", 5), ("a 3", 5), ("b 9", 5), ("a x", 5), ("", 5), ("a 6", 6)] {
        tell(&listeners, payload);
        assert_eq!(revision(), expected, "{payload}");
    }
}

/// Every option that the driver knows, none at its default.
const OPTIONS: &str = "application_name=x&options=-c%20geqo%3Doff&sslmode=require&sslnegotiation=direct&connect_timeout=7&tcp_user_timeout=8\
     &keepalives=0&keepalives_idle=9&keepalives_interval=10&keepalives_retries=11&target_session_attrs=read-only\
     &channel_binding=disable&load_balance_hosts=random";

#[test]
fn a_host_alone_keeps_everything_else() {
    let config = |hosts: &str, more: &str| -> Config {
        format!("postgres://al:s3cret@{hosts}/log?{OPTIONS}{more}").parse().unwrap()
    };
    for (hosts, more, alone) in [
        ("a:6", "", vec![("a:6", "", "")]),
        ("a,b:6,[::1]:7", "", vec![("a", "", "a:5432: "), ("b:6", "", "b:6: "), ("[::1]:7", "", "::1:7: ")]),
        ("%2Ftmp:8,b", "", vec![("%2Ftmp:8", "", "/tmp:8: "), ("b", "", "b:5432: ")]),
        (
            "a,b:6",
            "&hostaddr=10.0.0.1,10.0.0.2",
            vec![("a", "&hostaddr=10.0.0.1", "a:5432: "), ("b:6", "&hostaddr=10.0.0.2", "b:6: ")],
        ),
        ("a:6", "&host=b", vec![("a:6", "", "a:6: "), ("b:6", "", "b:6: ")]),
    ] {
        let found: Vec<(String, Config)> =
            one_by_one(&config(hosts, more)).unwrap().into_iter().map(|server| (server.label, server.config)).collect();
        let expected: Vec<(String, Config)> =
            alone.into_iter().map(|(host, more, label)| (label.to_owned(), config(host, more))).collect();
        assert_eq!(found, expected, "{hosts}{more}");
    }
    for (hosts, more) in [("a,b", "&hostaddr=10.0.0.1"), ("a,b", "&port=6"), ("a", "&port=6")] {
        assert!(one_by_one(&config(hosts, more)).is_err(), "{hosts}{more}");
    }
}

/// What a host does to those who connect.
#[derive(Clone, Copy, Debug)]
enum Does {
    /// After so many milliseconds.
    Connect(u64),
    Hang,
    Fail,
    Refuse,
}

async fn done(at: usize, does: Does) -> Result<usize, Trouble> {
    match does {
        Does::Connect(ms) => {
            sleep(Duration::from_millis(ms)).await;
            Ok(at)
        }
        Does::Hang => pending().await,
        Does::Fail => Err(Trouble::Unclear("down".to_owned())),
        Does::Refuse => Err(Trouble::Refused("no".to_owned())),
    }
}

fn servers(count: usize) -> Vec<Server> {
    (0..count).map(|at| Server { label: format!("{at}: "), config: Config::new() }).collect()
}

#[tokio::test(start_paused = true)]
async fn every_host_gets_its_turn_and_its_time() {
    use Does::{Connect, Fail, Hang, Refuse};
    // Of one attempt after the other: what comes of it, after how many milliseconds, and which host is next.
    for (hosts, attempts) in [
        (vec![Connect(10), Hang], vec![("0", 10, 0), ("0", 10, 0)]),
        (vec![Hang, Connect(100)], vec![("1", 2100, 1), ("1", 100, 1)]),
        (vec![Hang, Connect(1500)], vec![("unclear: 0: no connection within 2.0s; 1: ", 3000, 1), ("1", 1500, 1)]),
        (vec![Hang, Hang, Connect(100)], vec![("unclear", 3000, 1), ("2", 2100, 2)]),
        (vec![Hang, Hang, Hang, Connect(100)], vec![("unclear", 3000, 1), ("unclear", 3000, 2), ("3", 2100, 3)]),
        (vec![Hang, Fail, Hang], vec![("unclear: 0: no connection within 2.0s; 1: down; 2: ", 3000, 2)]),
        (vec![Fail, Refuse, Connect(10)], vec![("2", 10, 2)]),
        (vec![Fail, Refuse], vec![("unclear: 0: down; 1: no", 0, 0)]),
        (vec![Refuse, Fail], vec![("unclear: 0: no; 1: down", 0, 0)]),
        (vec![Refuse, Refuse], vec![("refused: 0: no; 1: no", 0, 0)]),
        // Alone, it has all the time.
        (vec![Connect(2900)], vec![("0", 2900, 0)]),
        (vec![Hang], vec![("unclear: 0: no connection within 3.0s", 3000, 0)]),
    ] {
        let (servers, mut next) = (servers(hosts.len()), 0);
        for (expected, ms, turn) in attempts {
            let begun = Instant::now();
            let outcome = match in_turn(&servers, &mut next, |at| done(at, hosts[at])).await {
                Ok(at) => at.to_string(),
                Err(Trouble::Refused(reason)) => format!("refused: {reason}"),
                Err(Trouble::Unclear(reason)) => format!("unclear: {reason}"),
            };
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
            assert!(outcome.starts_with(expected), "{hosts:?}: {outcome}, not {expected}");
            assert!((ms..ms + 10).contains(&took), "{hosts:?}: {outcome} after {took} ms, not {ms}");
            assert_eq!(next, turn, "{hosts:?}: {outcome}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_leaves_the_turn_to_the_next_host() {
    let (servers, mut next) = (servers(2), 0);
    let attempt = in_turn(&servers, &mut next, |at| done(at, Does::Hang));
    assert!(timeout(Duration::from_secs(1), attempt).await.is_err());
    assert_eq!(next, 1);
}

/// A frozen server: the kernel takes the connection, and nobody speaks.
#[tokio::test]
async fn a_host_that_says_nothing_hides_no_other() {
    let listen = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let frozen = listen();
    let (silent, closed) = (frozen.local_addr().unwrap(), listen().local_addr().unwrap());
    let url = TableUrl::parse(&format!("postgres://al:s3cret@{silent},{closed}/log?sslmode=disable")).unwrap();
    let TableUrl::Postgres(url) = url else { panic!("not postgres") };
    let connections = Connections::new(&url, Env::system()).unwrap();
    let reason = match connections.run(async |client| client.batch_execute("select 1").await).await {
        Err(Trouble::Unclear(reason)) => reason,
        other => panic!("{other:?}"),
    };
    for part in [format!("{silent}: no connection within 2.0s"), format!("{closed}: "), "refused".to_owned()] {
        assert!(reason.contains(&part), "{reason}");
    }
    assert_eq!(connections.state.lock().await.next, 0, "after the second one it is the first's turn again");
}
