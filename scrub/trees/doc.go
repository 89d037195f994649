// Package trees keeps the shadow of every allocation group as B+trees in
// pageable memory: the reverse mappings that the forks claim, and the reference
// counts that follow from them.
//
// It is not for reading forks (package walk fills the arrays that the trees are
// made from), and not for deciding who is right.
//
// # How a tree comes to be
//
// A walk leaves one sorted array of claims per group. A group's tree is loaded
// from it, bottom-up, when it is first asked for, and the array is given back.
// All trees of a set lie in one file, so that a filesystem of ten thousand
// groups takes one descriptor for them.
//
// Where the budget is too small for all trees, the arrays stay and the trees
// come and go: the one that was asked for longest ago makes room for the next.
//
// # Invariants
//
//	a group has its array, or its tree, or both
//	a group has only its array, or its array has been given back, or memory is short
//	what a tree says = what the array says, in normal form
package trees
