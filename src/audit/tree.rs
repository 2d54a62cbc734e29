//! The Merkle tree over the log's lines (RFC 6962, section 2.1): what a checkpoint signs, and proofs out of it.
//!
//! Guarantees: a [`Tree`] keeps one hash for each perfect subtree, at most 64, and gives the root of what was pushed;
//! [`is_included`] and [`is_consistent`] accept exactly what follows from the roots (RFC 9162, sections 2.1.3.2 and 2.1.4.2). Making a
//! proof needs the hashes of all leaves. Deliberately absent: what a leaf is, and files.

use super::chain::Hash;
use sha2::{Digest, Sha256};

/// A tree that grows by one leaf at a time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// The perfect subtrees, the largest first: one for each bit that is set in `size`.
    subtrees: Vec<Hash>,
}

impl Tree {
    /// A tree of which only the perfect subtrees are known; `None` when they are not as many as its size has.
    pub fn from_subtrees(size: u64, subtrees: Vec<Hash>) -> Option<Tree> {
        (subtrees.len() as u32 == size.count_ones()).then_some(Tree { size, subtrees })
    }

    /// Leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The perfect subtrees, the largest first.
    pub fn subtrees(&self) -> &[Hash] {
        &self.subtrees
    }

    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each bit that is set at the end of the size is a subtree as large as what stands in `hash`.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node(left, hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// The root (RFC 6962's MTH); of the empty tree, the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut subtrees = self.subtrees.iter().rev();
        let Some(last) = subtrees.next() else { return Hash(Sha256::digest([]).into()) };
        subtrees.fold(*last, |right, left| node(*left, right))
    }
}

/// The hash of an inner node.
fn node(left: Hash, right: Hash) -> Hash {
    let mut digest = Sha256::new();
    digest.update([1]);
    digest.update(left.0);
    digest.update(right.0);
    Hash(digest.finalize().into())
}

/// The root over leaves.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.push(*leaf));
    tree.root()
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The way from a leaf to the root (RFC 6962's PATH), the leaf's sibling first; `None` when there is no such leaf.
pub fn prove_inclusion(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    match leaves.len() {
        size if index >= size => None,
        1 => Some(vec![]),
        size => {
            let (left, right) = leaves.split_at(split(size));
            let (mut path, other) = match index.checked_sub(left.len()) {
                None => (prove_inclusion(left, index)?, root(right)),
                Some(index) => (prove_inclusion(right, index)?, root(left)),
            };
            path.push(other);
            Some(path)
        }
    }
}

/// That the first `old` leaves are the tree that they were (RFC 6962's PROOF); `None` when there are fewer, or `old` is 0.
pub fn prove_consistency(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    fn subproof(leaves: &[Hash], old: usize, known: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if known { vec![] } else { vec![root(leaves)] };
        }
        let (left, right) = leaves.split_at(split(leaves.len()));
        match old.checked_sub(left.len()) {
            None | Some(0) => {
                let mut proof = subproof(left, old, known);
                proof.push(root(right));
                proof
            }
            Some(old) => {
                let mut proof = subproof(right, old, false);
                proof.push(root(left));
                proof
            }
        }
    }
    (1..=leaves.len()).contains(&old).then(|| subproof(leaves, old, true))
}

/// Whether `proof` leads from a leaf at `index` to the root of a tree of `size` leaves.
pub fn is_included(leaf: Hash, index: u64, size: u64, proof: &[Hash], root: Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut index, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if index & 1 == 1 || index == last {
            hash = node(*sibling, hash);
            while index & 1 == 0 && index != 0 {
                (index, last) = (index >> 1, last >> 1);
            }
        } else {
            hash = node(hash, *sibling);
        }
        (index, last) = (index >> 1, last >> 1);
    }
    last == 0 && hash == root
}

/// A tree's size and root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub size: u64,
    pub root: Hash,
}

/// Whether the tree `new` begins with the tree `old`. Everything begins with the empty tree.
pub fn is_consistent(old: Head, new: Head, proof: &[Hash]) -> bool {
    if old.size == 0 {
        return proof.is_empty();
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    if old.size > new.size {
        return false;
    }
    let (mut first, mut last) = (old.size - 1, new.size - 1);
    while first & 1 == 1 {
        (first, last) = (first >> 1, last >> 1);
    }
    let mut proof = proof.iter().copied();
    // A tree whose size is a power of two is a subtree of the new one: its root is where the way begins.
    let begin = if old.size.is_power_of_two() { Some(old.root) } else { proof.next() };
    let Some(begin) = begin else { return false };
    let (mut was, mut is) = (begin, begin);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if first & 1 == 1 || first == last {
            (was, is) = (node(sibling, was), node(sibling, is));
            while first & 1 == 0 && first != 0 {
                (first, last) = (first >> 1, last >> 1);
            }
        } else {
            is = node(is, sibling);
        }
        (first, last) = (first >> 1, last >> 1);
    }
    last == 0 && was == old.root && is == new.root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The inputs and roots of the reference implementation's tests (certificate-transparency, `merkle_tree_test`).
    const INPUTS: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|number| Hash::of(&number.to_le_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_the_reference_implementation() {
        let mut tree = Tree::default();
        assert_eq!(tree.root().hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (input, expected) in INPUTS.iter().zip(ROOTS) {
            let mut bytes = vec![0; input.len() / 2];
            faster_hex::hex_decode(input.as_bytes(), &mut bytes).unwrap();
            tree.push(Hash::of(&bytes));
            assert_eq!(tree.root().hex(), expected);
        }
    }

    #[test]
    fn a_tree_goes_on_from_its_subtrees() {
        let leaves = leaves(40);
        let mut tree = Tree::default();
        for (size, leaf) in leaves.iter().enumerate() {
            let known = tree.subtrees().to_vec();
            assert_eq!(Tree::from_subtrees(size as u64, known.clone()), Some(tree.clone()));
            assert_eq!(
                Tree::from_subtrees(size as u64 + 1, known).is_some(),
                (size + 1).count_ones() == size.count_ones()
            );
            tree.push(*leaf);
            assert_eq!(tree.root(), root(&leaves[..=size]));
        }
    }

    #[test]
    fn each_leaf_is_proven_and_nothing_else() {
        for size in 1..=33 {
            let leaves = leaves(size);
            let whole = root(&leaves);
            for index in 0..size {
                let proof = prove_inclusion(&leaves, index).unwrap();
                let check = |leaf, index: usize, size: usize, proof: &[Hash]| {
                    is_included(leaf, index as u64, size as u64, proof, whole)
                };
                assert!(check(leaves[index], index, size, &proof), "{index} of {size}");
                for other in 0..size + 2 {
                    assert_eq!(check(leaves[index], other, size, &proof), other == index);
                }
                assert!(!check(Hash([9; 32]), index, size, &proof));
                assert!(!check(leaves[index], index, size, &[proof.as_slice(), &[Hash([1; 32])]].concat()));
                for at in 0..proof.len() {
                    let mut short = proof.clone();
                    short.remove(at);
                    assert!(!check(leaves[index], index, size, &short));
                    let mut changed = proof.clone();
                    changed[at].0[7] ^= 1;
                    assert!(!check(leaves[index], index, size, &changed));
                }
            }
            assert_eq!(prove_inclusion(&leaves, size), None);
        }
    }

    #[test]
    fn each_beginning_is_proven_and_no_other_history() {
        let all = leaves(33);
        for size in 1..=33 {
            let new = Head { size: size as u64, root: root(&all[..size]) };
            for first in 1..=size {
                let old = Head { size: first as u64, root: root(&all[..first]) };
                let proof = prove_consistency(&all[..size], first).unwrap();
                assert!(is_consistent(old, new, &proof), "{first} of {size}");
                let forked = Head { root: Hash([3; 32]), ..old };
                assert!(!is_consistent(forked, new, &proof));
                assert!(!is_consistent(old, Head { root: Hash([3; 32]), ..new }, &proof));
                assert!(!is_consistent(old, new, &[proof.as_slice(), &[Hash([1; 32])]].concat()));
                for at in 0..proof.len() {
                    let mut changed = proof.clone();
                    changed[at].0[0] ^= 1;
                    assert!(!is_consistent(old, new, &changed));
                    changed.remove(at);
                    assert!(!is_consistent(old, new, &changed));
                }
            }
            assert_eq!(prove_consistency(&all[..size], size + 1), None);
            assert!(is_consistent(Head { size: 0, root: Hash([0; 32]) }, new, &[]));
        }
    }
}
