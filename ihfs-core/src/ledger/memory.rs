//! A ledger in memory: the whole machine of rules, tree and lists, for tests.
