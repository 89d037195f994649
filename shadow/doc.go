// Package shadow holds what scrubd believes about the space of an allocation
// group: reverse mappings, reference counts, and the differences between two
// such beliefs.
//
// It is not for talking to the kernel and not for deciding who is right. It
// takes and gives iterators over records, keeps large sets in pageable memory
// (package xfile), and knows no policy.
//
// # Words
//
// A reverse mapping ([Rmap]) says that blocks [StartBlock, StartBlock +
// BlockCount) of an allocation group belong to an owner at an offset with
// flags. Two mappings lie on the same line if one could be the continuation of
// the other: same owner, same flags, and (where offsets mean anything) the
// same distance between offset and start block. On one line a set of mappings
// is nothing but a set of blocks, and its normal form is that set written as
// maximal intervals. Two sides agree if on every line their sets of blocks are
// equal, however each side has cut them into records.
//
// # Invariants
//
//	0 <= StartBlock < StartBlock + BlockCount <= 2^32 - 1
//	streams: Compare(record[i], record[i+1]) <= 0
//	trees:   Compare(record[i], record[i+1]) <  0
package shadow
