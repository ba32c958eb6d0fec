//! Peers that stall, drip or speak garbage, on real sockets: nobody hangs, and nobody else is disturbed.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use ihfs_tests::bytes_of;
use ihfs_tests::processes::Machine;
use serde_json::Value;

/// Within which a command must have given up: its keys, and 10 s for dialling and shaking hands, on a busy machine.
const GIVEN_UP: Duration = Duration::from_secs(45);
/// Pause of a peer that drips.
const DRIP: Duration = Duration::from_secs(1);
/// What no program of IHFS says.
const GARBAGE: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/// Answers every connection on a port of its own until the test's process ends; gives its address.
fn port(answer: impl Fn(TcpStream) + Send + Copy + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Takes all and says nothing.
fn keep_silent(mut stream: TcpStream) {
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// Says the beginning of a TLS record of 16 KiB, a byte a second.
fn drip(mut stream: TcpStream) {
    let record = [&[0x16, 3, 3, 0x40, 0][..], &[0; 1 << 14]].concat();
    for byte in record {
        if stream.write_all(&[byte]).is_err() {
            return;
        }
        std::thread::sleep(DRIP);
    }
}

fn speak_garbage(mut stream: TcpStream) {
    // A peer that has gone needs no answer.
    let _ = stream.read(&mut [0; 64]).and_then(|_| stream.write_all(GARBAGE));
    keep_silent(stream);
}

/// Lets a home believe that its node is at this address.
fn point(machine: &Machine, home: &str, address: &str) {
    let path = machine.path(home).join("network.json");
    let mut network: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    network["nodes"][0]["addresses"] = Value::from(vec![address]);
    fs::write(&path, network.to_string()).unwrap();
}

/// Copies a home.
fn copy_home(machine: &Machine, from: &str, to: &str) {
    fs::create_dir(machine.path(to)).unwrap();
    for name in ["keyring", "network.json", "view"] {
        fs::copy(machine.path(from).join(name), machine.path(to).join(name)).unwrap();
    }
}

fn begin(machine: &Machine, home: &str, arguments: &[&str]) -> Child {
    let mut command = machine.command(home, arguments);
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_node_that_stalls_drips_or_speaks_garbage_is_given_up_in_time() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    fs::write(machine.path("file"), bytes_of(1, 100_000)).unwrap();
    let (file, to) = (machine.text("file"), machine.text("to"));
    let commands: [&[&str]; 4] = [&["ls", "/"], &["get", "/x", &to], &["put", &file, "/x"], &["received"]];
    let peers = [("silent", port(keep_silent)), ("dripping", port(drip)), ("babbling", port(speak_garbage))];
    let began = Instant::now();
    let mut running = Vec::new();
    for (name, address) in &peers {
        copy_home(&machine, "dr.lee", name);
        point(&machine, name, address);
        running.extend(commands.iter().map(|command| (name, command, begin(&machine, name, command))));
    }
    for (name, command, child) in running {
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2), "{name} {command:?}: {said}");
        assert!(said.contains("cannot be reached"), "{name} {command:?}: {said}");
        assert!(began.elapsed() < GIVEN_UP, "{name} {command:?}: after {:?}", began.elapsed());
    }
    assert!(!machine.path("to").exists());
}

#[test]
fn strangers_with_garbage_and_half_frames_do_not_disturb_a_node() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let bytes = bytes_of(1, 3_000_000);
    fs::write(machine.path("file"), &bytes).unwrap();
    let network: Value =
        serde_json::from_slice(&fs::read(machine.path("dr.lee/network.json")).unwrap()).unwrap();
    let address = network["nodes"][0]["addresses"][0].as_str().unwrap();
    let half_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 100]].concat();
    let long_record = [&[0x16, 3, 1, 0xff, 0xff][..], &bytes_of(2, 1 << 16)].concat();
    let mut held = Vec::new();
    // Fewer than may shake hands at once from one machine: more are turned away, whoever they are.
    for said in [GARBAGE, &half_hello, &long_record, b"", b"\x16", &bytes_of(3, 100_000)] {
        let mut stranger = TcpStream::connect(address).unwrap();
        // The node may have hung up already.
        let _ = stranger.write_all(said);
        held.push(stranger);
    }
    machine.done("dr.lee", &["put", &machine.text("file"), "/file"]);
    machine.done("dr.lee", &["get", "/file", &machine.text("got")]);
    assert!(fs::read(machine.path("got")).unwrap() == bytes);
    drop(held);
    machine.done("dr.lee", &["ls", "/"]);
}
