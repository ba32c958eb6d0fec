//! What people do: one use case a file. Sees plaintext; never linked by a node.
