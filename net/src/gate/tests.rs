use proptest::prelude::*;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(number: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, number])
}

fn is_evicted(pass: &Pass) -> bool {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };
    pin!(pass.evicted()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn the_seventeenth_of_an_address_takes_the_place_of_its_first() {
    let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
    let other = gate.enter(host(2), now).unwrap();
    let mut passes: Vec<_> = (0..16).map(|_| gate.enter(host(1), now).unwrap()).collect();
    assert!(!passes.iter().any(is_evicted));
    passes.push(gate.enter(host(1), now).unwrap());
    let evicted: Vec<_> = passes.iter().map(is_evicted).collect();
    assert!(evicted[0] && !evicted[1..].contains(&true) && !is_evicted(&other));
    assert!(is_evicted(&passes[0]), "it stays so");
    assert_eq!(gate.pending(), 17);
    drop(passes);
    assert_eq!(gate.pending(), 1);
}

#[test]
fn when_all_places_are_taken_the_oldest_of_the_address_with_the_most_goes() {
    let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
    let honest = gate.enter(host(1), now).unwrap();
    let crowd: Vec<_> = (0..63u8).map(|n| gate.enter(host(2 + n % 6), now).unwrap()).collect();
    assert_eq!(gate.pending(), 64);
    let newcomer = gate.enter(host(100), now).unwrap();
    assert_eq!(gate.pending(), 64);
    assert!(!is_evicted(&honest) && !is_evicted(&newcomer));
    // 63 among six: three have eleven, and of those the one that came first has the oldest.
    assert!(is_evicted(&crowd[0]));
    assert_eq!(crowd.iter().filter(|pass| is_evicted(pass)).count(), 1);
}

#[test]
fn a_thousand_idle_connections_keep_nobody_out() {
    for loopback in [true, false] {
        let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
        let from = |n: u32| if loopback { address("127.0.0.1") } else { IpAddr::from((10 << 24 | n).to_be_bytes()) };
        let mut idle: Vec<_> = (0..1000).map(|n| gate.enter(from(n), now).unwrap()).collect();
        let real = gate.enter(from(0), now).unwrap();
        idle.extend((1000..1010).map(|n| gate.enter(from(n), now).unwrap()));
        assert!(!is_evicted(&real));
        real.succeeded();
        assert!(gate.pending() < 64);
    }
}

#[tokio::test]
async fn who_waits_for_it_is_woken_by_the_eviction() {
    let limits = GateLimits { max_pending: 1, ..GateLimits::default() };
    let gate = Gate::new(limits);
    let pass = gate.enter(host(1), Instant::now()).unwrap();
    let waits = tokio::spawn(async move { pass.evicted().await });
    tokio::task::yield_now().await;
    let _next = gate.enter(host(2), Instant::now()).unwrap();
    waits.await.unwrap();
}

#[test]
fn after_five_failures_an_address_waits_for_the_rest_of_the_minute() {
    let (gate, start) = (Gate::new(GateLimits::default()), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    for second in 0..5 {
        gate.enter(host(1), at(10 + second)).unwrap().failed(at(10 + second));
    }
    let turned_away = gate.enter(host(1), at(20)).unwrap_err();
    assert_eq!(turned_away.wait, Duration::from_secs(50));
    assert_eq!(turned_away.refusal(), Refusal::TooManyFailures);
    assert!(turned_away.to_string().starts_with("10.0.0.1 is refused for 50 s, after 5 handshakes that failed"));
    drop(gate.enter(host(2), at(20)).unwrap());
    gate.enter(host(1), at(69)).unwrap_err();
    gate.enter(host(1), at(70)).unwrap().failed(at(70));
    drop(gate.enter(host(1), at(71)).unwrap());
}

#[test]
fn a_success_forgives_and_a_drop_is_no_failure() {
    let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
    for _ in 0..20 {
        for _ in 0..4 {
            gate.enter(host(1), now).unwrap().failed(now);
        }
        drop(gate.enter(host(1), now).unwrap());
        gate.enter(host(1), now).unwrap().succeeded();
    }
}

#[test]
fn loopback_may_fail_as_often_as_it_likes() {
    let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
    for text in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
        for _ in 0..50 {
            gate.enter(address(text), now).unwrap().failed(now);
        }
    }
}

#[test]
fn a_network_of_ipv6_counts_as_one_address_and_so_does_an_address_written_in_both_ways() {
    let (gate, now) = (Gate::new(GateLimits::default()), Instant::now());
    for n in 0..5 {
        gate.enter(address(&format!("2001:db8:0:1:{n}::1")), now).unwrap().failed(now);
        gate.enter(host(1), now).unwrap().failed(now);
    }
    gate.enter(address("2001:db8:0:1:ffff::"), now).unwrap_err();
    gate.enter(address("::ffff:10.0.0.1"), now).unwrap_err();
    drop(gate.enter(address("2001:db8:0:2::1"), now).unwrap());
    drop(gate.enter(address("::ffff:10.0.0.2"), now).unwrap());
}

#[test]
fn failures_of_ever_new_addresses_take_no_more_memory() {
    let (gate, start) = (Gate::new(GateLimits::default()), Instant::now());
    for n in 0..5000u32 {
        let now = start + Duration::from_millis(n.into());
        gate.enter(IpAddr::from((10 << 24 | n).to_be_bytes()), now).unwrap().failed(now);
        assert!(gate.inner.state().failures.len() <= MAX_WATCHED);
    }
}

#[test]
fn warnings_are_written_once_a_second_and_count_the_others() {
    let (gate, start) = (Gate::new(GateLimits::default()), Instant::now());
    let at = |millis| start + Duration::from_millis(millis);
    assert_eq!(gate.may_warn(at(0)), Some(0));
    for millis in 1..1000 {
        assert_eq!(gate.may_warn(at(millis)), None);
    }
    assert_eq!(gate.may_warn(at(1000)), Some(999));
    assert_eq!(gate.may_warn(at(5000)), Some(0));
}

#[test]
fn without_credentials_a_node_listens_on_loopback_only() {
    for good in ["127.0.0.1:2718", "127.1.2.3:0", "[::1]:2718", "[::ffff:127.0.0.1]:2718"] {
        assert!(may_listen(good.parse().unwrap(), false).is_ok(), "{good}");
    }
    for bad in ["0.0.0.0:2718", "[::]:2718", "192.168.1.5:2718", "[::ffff:0.0.0.0]:9", "[fe80::1]:0", "8.8.8.8:1"] {
        let address = bad.parse().unwrap();
        let said = may_listen(address, false).unwrap_err().to_string();
        assert!(said.starts_with(bad) && said.contains("127.0.0.1:") && said.contains("ssh -N -L"), "{said}");
        assert!(may_listen(address, true).is_ok());
    }
    let said = may_listen("0.0.0.0:2718".parse().unwrap(), false).unwrap_err().to_string();
    assert!(
        said.contains("every machine on the network") && (said.contains("distfun join") || !cfg!(feature = "tls")),
        "{said}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn limits_hold_whatever_comes(
        steps in proptest::collection::vec((0u8..6, 0u8..4, 0usize..20), 1..120), max in 0usize..12, per in 0usize..5
    ) {
        let limits = GateLimits { max_pending: max, max_pending_per_address: per, ..GateLimits::default() };
        let (gate, start) = (Gate::new(limits), Instant::now());
        let mut passes: Vec<Pass> = Vec::new();
        for (n, (from, what, which)) in steps.into_iter().enumerate() {
            let now = start + Duration::from_secs(n as u64);
            match what {
                0 if which < passes.len() => passes.swap_remove(which).failed(now),
                1 if which < passes.len() => passes.swap_remove(which).succeeded(),
                2 if which < passes.len() => drop(passes.swap_remove(which)),
                _ => {
                    if let Ok(pass) = gate.enter(host(from), now) {
                        prop_assert!(!is_evicted(&pass));
                        passes.push(pass);
                    }
                }
            }
            let held = passes.iter().filter(|pass| !is_evicted(pass));
            prop_assert_eq!(held.clone().count(), gate.pending());
            prop_assert!(gate.pending() <= max.max(1));
            for from in 0..6 {
                let of = held.clone().filter(|pass| pass.origin == Origin::of(host(from))).count();
                prop_assert!(of <= per.max(1));
            }
        }
        drop(passes);
        prop_assert_eq!(gate.pending(), 0);
    }
}
