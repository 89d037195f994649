package shadow

import (
	"errors"
	"fmt"
	"iter"
)

// DiffKind says what a [Difference] is.
type DiffKind uint8

// The kinds of differences. The zero kind is never yielded.
const (
	_ DiffKind = iota
	// DiffMissing: claimed, and the kernel maps the blocks to nobody that is not
	// claimed too.
	DiffMissing
	// DiffExtra: mapped by the kernel, and nobody else claims the blocks.
	DiffExtra
	// DiffOwner: the kernel maps the claimed blocks to another owner.
	DiffOwner
	// DiffOffset: same owner and flags, another offset.
	DiffOffset
	// DiffFlags: same owner, other flags; the offset may differ too.
	DiffFlags
	// DiffDuplicate: one side maps the blocks twice to the same owner, offset and
	// flags. Only that side is given.
	DiffDuplicate
)

// String names the kind in one word.
func (k DiffKind) String() string {
	switch k {
	case DiffMissing:
		return "missing"
	case DiffExtra:
		return "extra"
	case DiffOwner:
		return "owner"
	case DiffOffset:
		return "offset"
	case DiffFlags:
		return "flags"
	case DiffDuplicate:
		return "duplicate"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Difference is one way in which claims and kernel disagree about a run of
// blocks.
//
// Claim and Kernel are trimmed to exactly the blocks in dispute: where both are
// given, both cover the same blocks. They are what the normal form says there;
// the record that a side holds may be longer.
type Difference struct {
	Kind          DiffKind
	Claim, Kernel Rmap
	HasClaim      bool
	HasKernel     bool
	// Abuts is set for DiffMissing and DiffExtra if the other side maps the block
	// just before or just after the disputed ones on the same line (same owner and
	// flags, offset continued): its record is too short or too long. A missing
	// difference that abuts is a wrong length, one that does not is a lost record.
	Abuts bool
}

// Blocks gives the disputed blocks: [start, end).
func (d Difference) Blocks() (start, end uint64) {
	r := d.Claim
	if !d.HasClaim {
		r = d.Kernel
	}
	return uint64(r.StartBlock), r.End()
}

// String writes the difference in one line.
func (d Difference) String() string {
	s := d.Kind.String()
	if d.Abuts {
		s += " (length)"
	}
	if d.HasClaim {
		s += ": claimed " + d.Claim.String()
	}
	if d.HasKernel {
		s += ": kernel has " + d.Kernel.String()
	}
	return s
}

// ErrUnsorted is wrapped by errors about a stream whose records do not come in
// the order of [Compare].
var ErrUnsorted = errors.New("records out of order")

// Diff compares two sets of mappings of one allocation group and yields every
// difference, in order of start block.
//
// Shape: both streams are sorted by [Compare]; neither needs to be coalesced,
// Diff compares normal forms (see the package comment). Each stream comes as
// batches that Diff reads and does not keep.
// Pairing: on every block the lines that only the claims cover are matched with
// those that only the kernel covers: first same owner and offset with other
// flags, then same owner and flags with another offset, then same owner, then
// in order of owner; what finds no partner is missing or extra. A difference
// extends over all neighbouring blocks with the same lines in it, except that
// it may be cut in two where more than 65536 later differences wait for its
// end.
// Memory: grows with the mappings that cover one block and with the differences
// open at once, not with the streams.
// Duplicates: one DiffDuplicate for each record that covers blocks which its own
// side covered already on the same line.
// Errors: the stream's own; [ErrUnsorted]; [ErrBadRecord] for a record without
// blocks or with blocks past [MaxBlock]. After an error nothing more comes; a
// difference and an error are never both set.
func Diff(claims, kernel iter.Seq2[[]Rmap, error]) iter.Seq2[Difference, error] {
	return diff(claims, kernel, maxWaiting)
}

// maxWaiting is how many differences may wait for one that began before them.
const maxWaiting = 1 << 16

func diff(claims, kernel iter.Seq2[[]Rmap, error], waiting int) iter.Seq2[Difference, error] {
	return func(yield func(Difference, error) bool) {
		d := differ{waiting: waiting, yield: yield}
		d.in[claimSide] = newFeed("claims", claims)
		defer d.in[claimSide].stop()
		d.in[kernelSide] = newFeed("kernel", kernel)
		defer d.in[kernelSide].stop()
		if err := d.run(); err != nil && !errors.Is(err, errStopped) {
			yield(Difference{}, err)
		}
	}
}

// feed reads one stream and checks it.
type feed struct {
	name  string
	next  func() ([]Rmap, error, bool)
	stop  func()
	chunk []Rmap // what is left of the batch; empty only at the end of the stream
	prev  Rmap   // the last record taken, BlockCount 0 before the first
}

func newFeed(name string, seq iter.Seq2[[]Rmap, error]) feed {
	next, stop := iter.Pull2(seq)
	return feed{name: name, next: next, stop: stop}
}

// fill makes chunk non-empty unless the stream has ended.
func (f *feed) fill() error {
	for len(f.chunk) == 0 {
		chunk, err, ok := f.next()
		if !ok {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", f.name, err)
		}
		f.chunk = chunk
	}
	return nil
}

// check refuses r as the next record after prev.
func (f *feed) check(r *Rmap) error {
	if err := r.validBlocks(); err != nil {
		return fmt.Errorf("read %s: %w", f.name, err)
	}
	if f.prev.BlockCount != 0 && Compare(&f.prev, r) > 0 {
		return fmt.Errorf("read %s: %v comes after %v: %w", f.name, r, f.prev, ErrUnsorted)
	}
	return nil
}

// take removes n records from the chunk.
func (f *feed) take(n int) error {
	f.prev = f.chunk[n-1]
	f.chunk = f.chunk[n:]
	if len(f.chunk) == 0 {
		return f.fill()
	}
	return nil
}
