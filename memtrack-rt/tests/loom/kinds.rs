//! Kinds are found while others are added and their tables grow.

use std::panic::Location;
use std::ptr::NonNull;
use std::sync::Arc;

use loom::sync::Mutex;
use loom::thread;

use crate::block::Features;
use crate::kind::{Kinds, Needs, Store};
use crate::orders;
use crate::pool::{Function, Pool, Tag};
use crate::site::{Key, SiteRef};

struct Registry {
    kinds: Kinds,
    /// What is only used under the lock, and memory for it.
    store: Mutex<(Store, Vec<Vec<u128>>)>,
    key: Key,
}

// SAFETY: kinds are shared by nature, and the rest is under the lock.
unsafe impl Sync for Registry {}
// SAFETY: as above.
unsafe impl Send for Registry {}

impl Registry {
    fn with(kinds: u64) -> Arc<Self> {
        let key = Key {
            location: Location::caller(),
            function: Function::ExAllocatePool2,
            tag: Tag(1),
            pool: Pool::NonPaged,
            list: None,
        };
        let registry = Self { kinds: Kinds::EMPTY, store: Mutex::new((Store::EMPTY, Vec::new())), key };
        for kind in 0..kinds {
            registry.add(kind);
        }
        Arc::new(registry)
    }

    /// What an allocation does: the number of the kind of these features, which is made if there was none.
    fn number(&self, features: u64) -> usize {
        if let Some(kind) = self.kinds.find(&self.key, Features(features)) {
            assert_eq!(kind.features(), Features(features));
            return kind.number();
        }
        self.add(features)
    }

    fn add(&self, features: u64) -> usize {
        let (store, memory) = &mut *self.store.lock().unwrap();
        loop {
            if let Some(kind) = self.kinds.find(&self.key, Features(features)) {
                return kind.number();
            }
            let site = SiteRef(features as usize);
            let needs = match self.kinds.add(store, &self.key, Features(features), site) {
                Ok(kind) => return kind.number(),
                Err(needs) => needs,
            };
            let (Needs::Kinds(bytes) | Needs::Numbered(bytes) | Needs::Hashed(bytes)) = needs else {
                panic!("there are few kinds")
            };
            let mut room = vec![0_u128; bytes.div_ceil(16)];
            let start = NonNull::new(room.as_mut_ptr()).unwrap().cast();
            // SAFETY: the memory is zeroed, as long as was asked, and stays as long as the registry.
            assert_eq!(unsafe { self.kinds.adopt(store, needs, start) }, None);
            memory.push(room);
        }
    }

    fn is_at(&self, number: usize, features: u64) {
        let kind = self.kinds.get(number).expect("a kind that was made");
        assert_eq!((kind.features(), *kind.site()), (Features(features), SiteRef(features as usize)));
    }
}

#[test]
fn a_kind_is_found_while_others_are_added() {
    // The first tables have room for one by hash, and for two by number: one more, and one or the other grows.
    for known in 1..3 {
        orders(3, move || {
            let registry = Registry::with(known);
            let other = registry.clone();
            let theirs = thread::spawn(move || {
                let number = other.number(7);
                other.is_at(number, 7);
            });
            assert_eq!(registry.number(0), 0);
            registry.is_at(0, 0);
            theirs.join().unwrap();
            assert_eq!(registry.number(7), known as usize);
        });
    }
}

#[test]
fn a_kind_is_made_once() {
    orders(3, || {
        let registry = Registry::with(1);
        let other = registry.clone();
        let theirs = thread::spawn(move || other.number(7));
        let ours = registry.number(7);
        registry.is_at(ours, 7);
        assert_eq!(theirs.join().unwrap(), ours);
    });
}
