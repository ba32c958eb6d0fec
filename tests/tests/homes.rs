//! Homes: joining that was cut short, recovering over what is there, commands side by side.

use std::fs;

use ihfs_client::book::Book;
use ihfs_client::client::now;
use ihfs_client::home::Home;
use ihfs_client::join::{JoinError, Whereabouts, check_invitation, join, recover};
use ihfs_core::crypto::derive::Seed;
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::Role;
use ihfs_node::admin::invite::{INVITE_LIFE, invite};
use ihfs_tests::processes::Machine;
use ihfs_tests::{PASSPHRASE, Scene, Solo, at, connect, for_treatment};

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
