//! Joining and recovering at a node that lies: each lie is refused by its name, and nothing is set up on it.

use ihfs_client::client::{ConnectError, now};
use ihfs_client::home::Home;
use ihfs_client::join::{JoinError, Recovered, Whereabouts, join, recover};
use ihfs_client::view::ViewError;
use ihfs_core::codec;
use ihfs_core::crypto::derive::Seed;
use ihfs_core::invitation::Invitation;
use ihfs_core::ledger::identity::Role;
use ihfs_core::ledger::lists::{ListError, ListKey};
use ihfs_core::ledger::proof::ProofError;
use ihfs_core::ledger::state::{MemberEntry, MemberLists};
use ihfs_net::Conversation;
use ihfs_node::admin::invite::{INVITE_LIFE, invite};
use ihfs_proto::join::request::Request as Ask;
use ihfs_proto::join::response::Response as Answer;
use ihfs_proto::ledger::{Applied, request, response};
use ihfs_tests::liar::{Liar, read, written};
use ihfs_tests::{PASSPHRASE, Person, Solo};

/// A network, Ann on it, and a liar at its door.
struct Scene {
    solo: Solo,
    ann: Person,
    liar: Liar,
    place: Whereabouts,
}

impl Scene {
    fn new() -> Self {
        let solo = Solo::new();
        let ann = solo.join("ann", Role::Patient);
        let liar = Liar::between(&ann);
        let place = Whereabouts {
            chain: ann.whereabouts().chain,
            nodes: vec![(liar.node(), vec![liar.listen(&solo)])],
            handle: None,
        };
        Self { solo, ann, liar, place }
    }

    fn new_home(&self) -> Home {
        Home::at(self.solo.path().join("new machine"))
    }

    fn recover(&self, drill: bool) -> Result<Recovered, JoinError> {
        recover(&self.new_home(), &self.ann.seed(), PASSPHRASE, &self.place, drill)
    }

    /// An invitation that leads to the liar.
    fn invitation(&self, name: &str) -> Invitation {
        let expires = now().plus_millis(INVITE_LIFE);
        let invitation = invite(&self.solo.node_path(), Role::Practitioner, name, expires).unwrap();
        Invitation { addresses: self.place.nodes[0].1.clone(), ..invitation }
    }

    fn join(&self, name: &str) -> Result<(), JoinError> {
        let seed = Seed::from_random([name.len() as u8; 32]);
        join(&self.new_home(), &seed, PASSPHRASE, &self.invitation(name)).map(|_| ())
    }

    /// Answers that it is done, and does nothing.
    fn swallow_redeem(&self) {
        self.liar.swallow(|conversation, question| {
            if conversation != Conversation::Join {
                return None;
            }
            let question: ihfs_proto::join::Request = read(question.clone());
            let Some(Ask::Redeem(_)) = question.request else { return None };
            let response = Some(Answer::Applied(Applied { height: 7 }));
            Some(written(&ihfs_proto::join::Response { response }))
        });
    }

    /// Changes the entries of members that guests are shown.
    fn forge_member(&self, change: impl Fn(&mut Option<bytes::Bytes>) + Send + 'static) {
        self.liar.lie_to_strangers(move |_, answer| {
            let Answer::Proved(proved) = answer else { return };
            for entry in &mut proved.entries {
                let is_member = |value: &bytes::Bytes| codec::decode::<MemberEntry>(value, 64 << 10).is_ok();
                if entry.value.as_ref().is_some_and(is_member) {
                    change(&mut entry.value);
                }
            }
        });
    }

    fn assert_nothing_set_up(&self) {
        assert!(!self.new_home().is_set_up());
    }
}

#[test]
fn an_honest_door_lets_a_recovery_pass() {
    let scene = Scene::new();
    assert_eq!(scene.recover(true).unwrap().records, 2);
    assert_eq!(scene.recover(false).unwrap().readable, 2);
}

#[test]
fn an_invite_that_is_not_redeemed_though_the_node_says_so_is_told() {
    let scene = Scene::new();
    scene.swallow_redeem();
    let failed = scene.join("dr.kim").unwrap_err();
    assert!(matches!(failed, JoinError::NotRegistered), "{failed}");
    scene.assert_nothing_set_up();
}

#[test]
fn a_device_that_is_not_added_though_the_node_says_so_is_told() {
    let scene = Scene::new();
    scene.swallow_redeem();
    let failed = scene.recover(false).unwrap_err();
    assert!(matches!(failed, JoinError::NotRegistered), "{failed}");
    scene.assert_nothing_set_up();
}

#[test]
fn another_genesis_document_is_refused_at_the_door() {
    let scene = Scene::new();
    let other = Solo::new();
    let genesis = other.join("bob", Role::Patient).home.network().unwrap().parse().unwrap().genesis;
    scene.liar.lie_to_strangers(move |_, answer| {
        if let Answer::Genesis(document) = answer {
            *document = genesis.clone().into();
        }
    });
    for failed in [scene.join("dr.kim").unwrap_err(), scene.recover(false).unwrap_err()] {
        assert!(matches!(failed, JoinError::View(ViewError::WrongGenesis(None))), "{failed}");
    }
    scene.assert_nothing_set_up();
}

#[test]
fn a_forged_or_missing_member_is_refused_at_a_recovery() {
    let scene = Scene::new();
    scene.forge_member(|value| {
        let mut entry: MemberEntry = codec::decode(value.as_ref().unwrap(), 64 << 10).unwrap();
        entry.generation = entry.generation.next();
        *value = Some(codec::encode(&entry).into());
    });
    let forged = scene.recover(false).unwrap_err();
    scene.forge_member(|value| *value = None);
    let missing = scene.recover(false).unwrap_err();
    for failed in [forged, missing] {
        assert!(matches!(failed, JoinError::View(ViewError::Proof(ProofError::WrongLeaf))), "{failed}");
    }
    scene.assert_nothing_set_up();
}

#[test]
fn the_member_entry_of_somebody_else_is_refused_at_a_recovery() {
    let scene = Scene::new();
    let first = std::sync::Mutex::new(None);
    scene.liar.lie_to_strangers(move |_, answer| {
        let Answer::Proved(proved) = answer else { return };
        let mut first = first.lock().unwrap();
        match first.take() {
            None => *first = Some(proved.entries[0].clone()),
            Some(entry) => {
                proved.entries[0] = entry.clone();
                *first = Some(entry);
            }
        }
    });
    // Ann's, learned from a drill of hers.
    scene.recover(true).unwrap();
    let words = Seed::from_random([9; 32]);
    let failed = recover(&scene.new_home(), &words, PASSPHRASE, &scene.place, false).unwrap_err();
    assert!(matches!(failed, JoinError::View(ViewError::Proof(_))), "{failed}");
    scene.assert_nothing_set_up();
}

#[test]
fn forged_or_missing_lists_of_a_member_are_refused_at_a_recovery() {
    let scene = Scene::new();
    let forge = |change: fn(&mut Option<bytes::Bytes>)| {
        scene.liar.lie_about_ledger(move |_, answer| {
            let response::Response::Proved(proved) = answer else { return };
            for entry in &mut proved.entries {
                let lists = |value: &bytes::Bytes| codec::decode::<MemberLists>(value, 64 << 10).is_ok();
                if entry.value.as_ref().is_some_and(lists) {
                    change(&mut entry.value);
                }
            }
        });
    };
    forge(|value| *value = Some(codec::encode(&MemberLists::default()).into()));
    let fewer = scene.recover(true).unwrap_err();
    forge(|value| *value = None);
    let missing = scene.recover(false).unwrap_err();
    for failed in [fewer, missing] {
        assert!(matches!(failed, JoinError::View(ViewError::Proof(ProofError::WrongLeaf))), "{failed}");
    }
    scene.assert_nothing_set_up();
}

#[test]
fn an_incomplete_list_of_records_is_refused_at_a_recovery() {
    let scene = Scene::new();
    scene.liar.lie_about_ledger(|question, answer| {
        let (request::Request::Items(asked), response::Response::Items(page)) = (question, answer) else {
            return;
        };
        if matches!(codec::decode(&asked.list, 1024), Ok(ListKey::Records(_))) {
            page.items.pop();
        }
    });
    let failed = scene.recover(false).unwrap_err();
    let told = matches!(
        failed,
        JoinError::View(ViewError::List(ListError::WrongCount { .. } | ListError::WrongHash { .. }))
            | JoinError::Connect(ConnectError::View(ViewError::List(_)))
    );
    assert!(told, "{failed}");
}
