//! Homes: joining that was cut short, recovering over what is there, commands side by side.

use std::fs;
use std::process::Command;

use ihfs_client::book::Book;
use ihfs_client::client::now;
use ihfs_client::home::Home;
use ihfs_client::join::{JoinError, Whereabouts, check_invitation, join, recover};
use ihfs_core::crypto::derive::Seed;
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::Role;
use ihfs_node::admin::invite::{INVITE_LIFE, invite};
use ihfs_tests::processes::{Machine, program};
use ihfs_tests::{PASSPHRASE, Scene, Solo, at, connect, for_treatment};
use serde_json::Value;

fn invitation(solo: &Solo, name: &str) -> Invitation {
    invite(&solo.node_path(), Role::Practitioner, name, now().plus_millis(INVITE_LIFE)).unwrap()
}

fn kim() -> Seed {
    Seed::from_random([9; 32])
}

/// The home as a kill leaves it after the registration and before the next write.
fn killed_after_registration(solo: &Solo, invitation: &Invitation) -> Home {
    let home = Home::at(solo.path().join("dr.kim"));
    join(&home, &kim(), PASSPHRASE, invitation).unwrap();
    connect(&home, PASSPHRASE).change_book(|book| *book = Book::default()).unwrap();
    fs::rename(home.path().join("keyring"), home.path().join("keyring.new")).unwrap();
    assert!(!home.is_set_up());
    home
}

/// Whether what this home knows of its handle is enough to share.
fn can_share(scene: &Scene, home: &Home) -> bool {
    let client = connect(home, PASSPHRASE);
    scene.put(&client, "/note", 3);
    let person = client.look_up(&scene.lee.handle()).unwrap();
    client.share(&at("/note"), &person, &for_treatment()).is_ok()
}

#[test]
fn joining_goes_on_where_it_was_killed_after_the_registration() {
    let scene = Scene::new();
    let invitation = invitation(&scene.solo, "dr.kim");
    let home = killed_after_registration(&scene.solo, &invitation);
    let joined = join(&home, &kim(), PASSPHRASE, &invitation).unwrap();
    assert_eq!(joined.handle.as_deref(), Some("dr.kim@st-mary"));
    assert_eq!(connect(&home, PASSPHRASE).devices().unwrap().len(), 1, "it is the same device");
    assert!(can_share(&scene, &home));
}

#[test]
fn joining_goes_on_with_another_passphrase_as_another_device() {
    let scene = Scene::new();
    let invitation = invitation(&scene.solo, "dr.kim");
    let home = killed_after_registration(&scene.solo, &invitation);
    join(&home, &kim(), b"another passphrase", &invitation).unwrap();
    assert_eq!(connect(&home, b"another passphrase").devices().unwrap().len(), 2);
}

#[test]
fn recovering_a_member_whose_joining_was_cut_short_finds_the_handle() {
    let scene = Scene::new();
    let invitation = invitation(&scene.solo, "dr.kim");
    let home = killed_after_registration(&scene.solo, &invitation);
    let handle = Some(invitation.handle.handle.clone());
    let place = Whereabouts { handle, ..scene.ann.whereabouts() };
    let elsewhere = Home::at(scene.solo.path().join("new machine"));
    let found = recover(&elsewhere, &kim(), PASSPHRASE, &place, false).unwrap();
    assert_eq!(found.who.handle.as_deref(), Some("dr.kim@st-mary"), "from the directory");
    assert!(can_share(&scene, &elsewhere));
    let nameless = Whereabouts { handle: None, ..place };
    let found = recover(&home, &kim(), PASSPHRASE, &nameless, false).unwrap();
    assert_eq!(found.who.handle.as_deref(), Some("dr.kim@st-mary"), "from the address book");
}

#[test]
fn a_used_invite_is_told_before_words_are_written_down() {
    let scene = Scene::new();
    let invitation = invitation(&scene.solo, "dr.kim");
    check_invitation(&invitation).unwrap();
    let home = Home::at(scene.solo.path().join("dr.kim"));
    join(&home, &kim(), PASSPHRASE, &invitation).unwrap();
    assert!(matches!(check_invitation(&invitation), Err(JoinError::InviteSpent)));
    let other = Home::at(scene.solo.path().join("other"));
    let again = join(&other, &Seed::from_random([8; 32]), PASSPHRASE, &invitation);
    assert!(matches!(again, Err(JoinError::InviteSpent)));
}

#[test]
fn recovering_over_the_folder_of_another_member_is_refused() {
    let scene = Scene::new();
    let (lee, ann) = (&scene.lee.home, scene.ann.seed());
    let before = lee.keyring().unwrap();
    let drill = recover(lee, &ann, PASSPHRASE, &scene.ann.whereabouts(), true).unwrap();
    assert!(drill.folder_of_another);
    let refused = recover(lee, &ann, PASSPHRASE, &scene.ann.whereabouts(), false);
    assert!(matches!(refused, Err(JoinError::OtherMember { .. })));
    assert_eq!(lee.keyring().unwrap(), before);
    assert_eq!(connect(lee, PASSPHRASE).whoami().unwrap().member, scene.lee.joined.member);
    assert_eq!(scene.ann.connect().devices().unwrap().len(), 1, "no device was added");
}

#[test]
fn recovering_over_the_own_folder_names_the_device_that_it_had() {
    let scene = Scene::new();
    let home = &scene.ann.home;
    let device = scene.ann.connect().whoami().unwrap().device;
    let found = recover(home, &scene.ann.seed(), b"remembered", &scene.ann.whereabouts(), false).unwrap();
    assert_eq!(found.replaced, Some(device));
}

#[test]
fn an_init_that_is_killed_anywhere_goes_on_with_the_same_sheet() {
    let machine = Machine::new();
    let invited = machine.done_node(&["invite", "--role", "practitioner", "--as", "dr.lee"]);
    fs::write(machine.path("invite"), invited).unwrap();
    let (invite, sheet) = (machine.text("invite"), machine.text("lee.sheet"));
    let init = ["init", "--invite", &invite, "--yes", "--sheet", &sheet];
    let mut first = machine.spawn("lee", &init);
    while !machine.path("lee/keyring.new").exists() && first.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    if !machine.path("lee/keyring").exists() {
        machine.done("lee", &init);
    }
    assert_eq!(machine.json("lee", &["whoami"])["handle"], "dr.lee@home");
    assert_eq!(machine.json("lee", &["device", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn commands_side_by_side_in_one_home_all_succeed() {
    let machine = Machine::new();
    for _ in 0..5 {
        let running: Vec<_> = (0..4).map(|_| machine.spawn("ann", &["ls", "/"])).collect();
        for mut command in running {
            assert!(command.wait().unwrap().success());
        }
    }
}

/// How an `ihfs` fails, told to a program.
fn failure(machine: &Machine, home: &str, arguments: &[&str]) -> (i32, Value) {
    let output = machine.run(home, &[arguments, &["--json"]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    (output.status.code().unwrap(), told["error"].clone())
}

#[test]
fn an_init_that_cannot_succeed_leaves_neither_node_nor_sheet() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let (invite, sheet) = (machine.text("invite"), machine.text("other.sheet"));
    let init = ["init", "--invite", &invite, "--yes", "--sheet", &sheet];
    let (exit, error) = failure(&machine, "other", &init);
    assert_eq!((exit, &error["code"]), (3, &"invite-used".into()));
    let week = 8 * 24 * 60 * 60;
    let expired = machine.command_at(week, "other", &init).arg("--json").output().unwrap();
    assert!(String::from_utf8_lossy(&expired.stdout).contains("invite-expired"));

    fs::write(machine.path("pass"), "short\n").unwrap();
    let solo = ["init", "--solo", "--as", "kim", "--yes", "--sheet", &sheet];
    assert_eq!(failure(&machine, "kim", &solo).1["code"], "passphrase-short");
    fs::write(machine.path("pass"), "a passphrase of tests\n").unwrap();
    let (_, error) = failure(&machine, "kim", &["init", "--solo", "--as", "kim"]);
    assert_eq!(error["option"], "--sheet FILE and --yes");
    assert!(!machine.path("other.sheet").exists() && !machine.path("kim/node").exists());
}

#[test]
fn a_device_that_was_removed_is_told_so_and_may_remove_itself() {
    let machine = Machine::new();
    let sheet = machine.text("ann.sheet");
    let first = machine.json("ann", &["whoami"])["device"].as_str().unwrap().to_owned();
    let (exit, error) = failure(&machine, "ann", &["device", "remove", &first, "--sheet", &sheet, "--yes"]);
    assert_eq!((exit, &error["code"]), (3, &"last-device".into()));
    machine.done("ann2", &["recover", "--sheet", &sheet]);
    let own = machine.json("ann2", &["whoami"])["device"].as_str().unwrap().to_owned();
    let removed = machine.json("ann2", &["device", "remove", &own, "--sheet", &sheet, "--yes"]);
    assert_eq!(removed["this_device"], true);
    let (exit, error) = failure(&machine, "ann2", &["ls", "/"]);
    assert_eq!((exit, &error["code"]), (3, &"device-removed".into()));
    machine.done("ann", &["ls", "/"]);
}

#[test]
fn who_one_is_needs_no_node() {
    let machine = Machine::new();
    let with_node = machine.json("ann", &["whoami"]);
    machine.done("ann", &["solo", "stop"]);
    let mut without = machine.json("ann", &["whoami"]);
    assert_eq!(without["role"], Value::Null);
    without["role"] = with_node["role"].clone();
    assert_eq!(without, with_node);
}

#[test]
fn sharing_until_the_past_and_sharing_everything_are_stopped() {
    let machine = Machine::new();
    machine.invite("dr.lee");
    let past = ["share", "/x", "dr.lee@home", "--until", "2001-01-01"];
    assert_eq!(failure(&machine, "ann", &past).1["code"], "until-past");
    let (exit, error) = failure(&machine, "ann", &["share", "/", "dr.lee@home"]);
    assert_eq!((exit, &error["option"]), (2, &"--yes".into()));
}

#[test]
fn a_node_says_errors_as_ihfs_does() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("node");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program("ihfs-node"));
        let output = command.args(arguments).arg("--json").arg("--data").arg(&data).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), told["error"].clone())
    };
    let (exit, error) = run(&["init", "--hospital", "st-mary", "--listen", "0.0.0.0:0"]);
    assert_eq!((exit, &error["code"], &error["command"]), (2, &"no-announce".into(), &"init".into()));
    assert_eq!(run(&["status"]).1["code"], "no-node");
    assert_eq!(run(&["status", "--colour"]).1["code"], "usage");
    assert!(!data.exists());
}
