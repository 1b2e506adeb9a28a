use super::*;

fn supervision(variables: &[(&str, &str)]) -> Supervision {
    let env = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.map(|(_, value)| OsString::from(value))
    };
    Supervision::of(&env, 4711)
}

#[test]
fn without_a_manager_there_is_nothing() {
    assert_eq!(supervision(&[]), Supervision::default());
    assert_eq!(supervision(&[("NOTIFY_SOCKET", "")]), Supervision::default());
}

#[test]
fn a_watchdog_is_for_the_process_that_it_names() {
    let second = Some(Duration::from_secs(1));
    let usec = ("WATCHDOG_USEC", "1000000");
    assert_eq!(supervision(&[usec]).watchdog, second);
    assert_eq!(supervision(&[usec, ("WATCHDOG_PID", "4711")]).watchdog, second);
    assert_eq!(supervision(&[usec, ("WATCHDOG_PID", "4712")]).watchdog, None);
    for none in ["0", "", "soon"] {
        assert_eq!(supervision(&[("WATCHDOG_USEC", none)]).watchdog, None, "{none}");
    }
}

#[test]
fn how_many_descriptors_are_kept_is_known_where_the_manager_says_so() {
    assert_eq!(supervision(&[]).keeps, None);
    assert_eq!(supervision(&[("FDSTORE", "256")]).keeps, Some(256));
    for none in ["", "-1", "many"] {
        assert_eq!(supervision(&[("FDSTORE", none)]).keeps, None, "{none}");
    }
}

#[tokio::test]
async fn an_address_that_cannot_be_used_is_no_manager() {
    let manager = Manager::of(&supervision(&[("NOTIFY_SOCKET", "vsock:2:9"), ("WATCHDOG_USEC", "5")]));
    assert!(manager.address.is_none() && manager.watchdog.is_none());
    assert!(manager.send(&[Line::Ready]).await);
}
