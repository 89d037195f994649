// Package confirm looks again at a difference between witnesses until it is
// gone, proven, or known not to be settled.
//
// It is not for judging which witness is wrong (package verdict). A candidate
// is one sighting; on a busy healthy filesystem there are many, because forks,
// rmapbt and bnobt are read at different times and a chain of transactions may
// be under way between two of them.
//
// # Inodes' blocks
//
// A vote is one look at the forks, the rmapbt window, and the forks again. It
// counts only if the forks were the same before and after and no ctime changed
// in between; without the ctime a sandwich of equal forks is wrong in up to
// two thirds of the looks under load, because the allocator hands the same
// blocks back. Three votes with the identical difference, with an AG drain
// barrier between each two of them, confirm. A look at which fork and rmapbt
// agree ends the matter: a damaged record does not heal. That takes all owners
// to have been heard: one that a lease keeps shut, or whose forks cannot be
// read, agrees with nothing.
//
// Votes about an inode that does not exist, or whose forks cannot be read, are
// without a ctime. They take as many looks, and as long, as space does.
//
// # Space
//
// Blocks without a ctime are sampled in triples, rmapbt, bnobt, rmapbt, at
// random moments. All samples have to agree with one another.
//
// Source: the confirm protocol in docs/architecture.md.
package confirm
