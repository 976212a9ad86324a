//! Hosts that take connections and let their clients wait.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::{RegistryError, TransportError};

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);

/// Until the client goes.
fn say_nothing(mut connection: TcpStream) {
    let _ = std::io::copy(&mut connection, &mut std::io::sink());
}

fn answer(mut connection: &TcpStream, rest: &str) {
    let text = format!("HTTP/1.1 200 OK\r\n{rest}");
    connection.write_all(text.as_bytes()).unwrap();
}

fn image(host: SocketAddr) -> Reference {
    format!("{host}/app:1").parse().unwrap()
}

fn why(error: RegistryError) -> TransportError {
    match error {
        RegistryError::Unreachable { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn who_never_said_a_word_is_not_asked_again() {
    let (asked, count) = mpsc::channel();
    let silent = host(move |connection, _| {
        asked.send(()).unwrap();
        say_nothing(connection);
    });
    let (client, pauses) = client_with(Options {
        stall_timeout: Duration::from_millis(100),
        ..Options::default()
    });
    let error = why(client.resolve(&image(silent)).unwrap_err());
    let told = "it takes connections and does not answer: not a byte within 0.1s";
    assert_eq!(error.to_string(), told);
    assert_eq!(count.try_iter().count(), 1);
    assert!(pauses.lock().unwrap().is_empty());
}

#[test]
fn who_was_heard_before_is_asked_again() {
    let silent = host(|connection, _| say_nothing(connection));
    let (client, pauses) = client_with(Options {
        stall_timeout: Duration::from_millis(100),
        ..Options::default()
    });
    client.session.wire.heard(&silent.to_string());
    let error = why(client.resolve(&image(silent)).unwrap_err());
    assert_eq!(error.to_string(), "timed out: not a byte within 0.1s");
    assert_eq!(pauses.lock().unwrap().len(), 1);
}

#[test]
fn who_was_there_before_is_called_again_as_after_a_cut() {
    // Where nobody listens.
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    for (heard, pauses_made) in [(false, 2), (true, 4)] {
        let (client, pauses) = client_with(Options {
            tls_verify: Some(false),
            ..Options::default()
        });
        if heard {
            client.session.wire.heard(&address.to_string());
        }
        client.resolve(&image(address)).unwrap_err();
        assert_eq!(pauses.lock().unwrap().len(), pauses_made, "{heard}");
    }
}

#[test]
fn an_answer_that_only_drips_is_no_answer() {
    let drips = host(|mut connection, _| {
        head(&connection);
        answer(&connection, "x-drip: ");
        while connection.write_all(b".").is_ok() {
            thread::yield_now();
            thread::park_timeout(Duration::from_millis(5));
        }
    });
    let client = client_with(Options {
        stall_timeout: Duration::from_millis(100),
        ..Options::default()
    });
    let error = why(client.0.resolve(&image(drips)).unwrap_err());
    assert!(matches!(error, TransportError::Silent(_)), "{error}");
}

#[test]
fn a_blob_that_only_drips_is_given_up() {
    let drips = host(|mut connection, _| {
        while head(&connection).contains(" /v2/ ") {
            answer(&connection, "content-length: 0\r\n\r\n");
        }
        answer(&connection, "content-length: 4000\r\n\r\n");
        while connection.write_all(&[7]).is_ok() {
            thread::park_timeout(Duration::from_millis(5));
        }
    });
    let (client, pauses) = client_with(Options {
        stall_timeout: Duration::from_millis(50),
        ..Options::default()
    });
    client.session.wire.heard(&drips.to_string());
    let blob = descriptor(&[7; 4000]);
    let pulled = client.pull_blob(&image(drips), &blob, &mut Vec::new(), &|_| {});
    let error = why(pulled.unwrap_err());
    assert!(matches!(error, TransportError::TimedOut(_)), "{error}");
    assert!(!pauses.lock().unwrap().is_empty());
}

#[test]
fn it_is_known_who_is_waited_for() {
    let (asked, was_asked) = mpsc::channel();
    let silent = host(move |connection, _| {
        head(&connection);
        asked.send(()).unwrap();
        say_nothing(connection);
    });
    let client = client();
    thread::scope(|scope| {
        let pulling = scope.spawn(|| client.resolve(&image(silent)));
        was_asked.recv().unwrap();
        let waits = client.waits_for(Duration::ZERO);
        assert_eq!(waits.len(), 1);
        assert_eq!(
            (waits[0].host.as_str(), waits[0].pause),
            (&*silent.to_string(), None)
        );
        assert!(client.waits_for(LONG).is_empty());
        client.stopper().stop();
        let error = why(pulling.join().unwrap().unwrap_err());
        assert_eq!(error, TransportError::Stopped);
    });
    assert!(client.waits_for(Duration::ZERO).is_empty());
}

#[test]
fn a_stop_reaches_a_blob_in_its_middle_and_lets_nothing_begin() {
    let (sent, was_sent) = mpsc::channel();
    let stalls = host(move |mut connection, _| {
        while head(&connection).contains(" /v2/ ") {
            answer(&connection, "content-length: 0\r\n\r\n");
        }
        answer(&connection, "content-length: 4000\r\n\r\n");
        connection.write_all(&[7; 100]).unwrap();
        sent.send(()).unwrap();
        say_nothing(connection);
    });
    let client = Client::new(Options::default());
    let blob = descriptor(&[7; 4000]);
    thread::scope(|scope| {
        let pull = || client.pull_blob(&image(stalls), &blob, &mut Vec::new(), &|_| {});
        let pulling = scope.spawn(pull);
        was_sent.recv().unwrap();
        client.stopper().stop();
        let error = why(pulling.join().unwrap().unwrap_err());
        assert_eq!(error, TransportError::Stopped);
        assert_eq!(why(pull().unwrap_err()), TransportError::Stopped);
    });
}

#[test]
fn a_stop_ends_a_pause() {
    let (asked, was_asked) = mpsc::channel();
    let busy = host(move |mut connection, _| {
        while !head(&connection).is_empty() {
            let text = "HTTP/1.1 429 Busy\r\nretry-after: 100\r\ncontent-length: 0\r\n\r\n";
            connection.write_all(text.as_bytes()).unwrap();
            asked.send(()).unwrap();
        }
    });
    let client = Client::new(Options::default());
    thread::scope(|scope| {
        let pulling = scope.spawn(|| client.resolve(&image(busy)));
        // The probe, and the question.
        was_asked.recv().unwrap();
        was_asked.recv().unwrap();
        client.stopper().stop();
        let error = why(pulling.join().unwrap().unwrap_err());
        assert_eq!(error, TransportError::Stopped);
    });
}
