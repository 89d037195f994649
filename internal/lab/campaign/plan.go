package campaign

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/scrubd/scrubd/internal/lab"
)

// Kind says how a case is damaged.
type Kind string

// The kinds of cases.
const (
	Single Kind = "single" // one fault
	Double Kind = "double" // two faults
	Lost   Kind = "lost"   // one write to one object was lost
	Clean  Kind = "clean"  // none
)

// Kinds are the kinds that a campaign can be of. Clean cases are mixed into
// each of them, one in ten.
var Kinds = []Kind{Single, Double, Lost}

// Case is one filesystem to damage and to repair. It follows from its name.
type Case struct {
	Kind  Kind   `json:"kind"`
	Seed  uint64 `json:"seed"`
	Index int    `json:"index"` // from 1
}

// String is the name that --only takes: KIND-SEED-INDEX.
func (c Case) String() string { return fmt.Sprintf("%s-%d-%d", c.Kind, c.Seed, c.Index) }

// ParseCase reads what String wrote.
func ParseCase(name string) (Case, error) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 || !slices.Contains(append([]Kind{Clean}, Kinds...), Kind(parts[0])) {
		return Case{}, fmt.Errorf("read the case %q: its form is KIND-SEED-INDEX, such as single-1-17", name)
	}
	seed, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return Case{}, fmt.Errorf("read the seed of the case %q: %w", name, err)
	}
	index, err := strconv.Atoi(parts[2])
	if err != nil {
		return Case{}, fmt.Errorf("read the index of the case %q: %w", name, err)
	}
	return Case{Kind: Kind(parts[0]), Seed: seed, Index: index}, nil
}

// Plan lists the cases of a campaign of n faults, and after every tenth one a
// filesystem without any.
func Plan(kind Kind, n int, seed uint64) []Case {
	var out []Case
	for i := range n {
		out = append(out, Case{Kind: kind, Seed: seed, Index: i + 1})
		if i%10 == 4 {
			out = append(out, Case{Kind: Clean, Seed: seed, Index: i/10 + 1})
		}
	}
	return out
}

// faultSpec is one fault as it is drawn: the victim is drawn by the seed.
type faultSpec struct {
	Class lab.FaultClass `json:"class"`
	Seed  uint64         `json:"seed"`
}

// draw is what one attempt at a case does. A fault that turns out to be none is
// drawn again, with the next attempt.
type draw struct {
	Geometry string      `json:"geometry"`
	Live     bool        `json:"live"`
	Faults   []faultSpec `json:"faults,omitempty"`
	// Lost is the kind of object that forgets a write.
	Lost lab.FaultClass `json:"lost,omitempty"`
	Seed uint64         `json:"seed"` // of whatever else is drawn
}

// structures are the classes by the structure that they damage. A structure is
// drawn first, so that those with many shapes do not crowd out the others.
var structures = []struct {
	name    string
	weight  int
	classes []lab.FaultClass
}{
	{"rmapbt", 4, []lab.FaultClass{
		lab.FaultRmapStart, lab.FaultRmapShorter, lab.FaultRmapLonger, lab.FaultRmapOwner, lab.FaultRmapOwnerMissing, lab.FaultRmapOwnerFree,
		lab.FaultRmapOffset, lab.FaultRmapUnwritten, lab.FaultRmapWritten, lab.FaultRmapAttr, lab.FaultRmapBMBT, lab.FaultRmapSpecial,
		lab.FaultRmapRemoved, lab.FaultRmapAddedFree, lab.FaultRmapAddedUsed, lab.FaultRmapKey, lab.FaultRmapInvalid, lab.FaultRmapCRC,
		lab.FaultRandomRmap, lab.FaultRandomRmap, lab.FaultRandomRmap, lab.FaultRandomRmap, lab.FaultRandomRmap, lab.FaultRandomRmap,
	}},
	{"refcountbt", 2, []lab.FaultClass{
		lab.FaultRefcountValue, lab.FaultRefcountRemoved, lab.FaultRefcountAdded, lab.FaultRefcountLength, lab.FaultRefcountStart,
		lab.FaultRandomRefcount, lab.FaultRandomRefcount, lab.FaultRefcountCoW,
	}},
	{"inline fork", 2, []lab.FaultClass{
		lab.FaultForkStart, lab.FaultForkLength, lab.FaultForkUnwritten, lab.FaultForkWritten, lab.FaultForkLost,
		lab.FaultForkLostNBlocks, lab.FaultCrossLink, lab.FaultRandomFork, lab.FaultRandomFork, lab.FaultRandomAttr, lab.FaultAttrFork,
	}},
	{"btree fork", 2, []lab.FaultClass{
		lab.FaultBMBTRecord, lab.FaultBMBTPointer, lab.FaultBMBTUnwritten, lab.FaultBMBTOffset, lab.FaultBMBTLength,
		lab.FaultRandomBMBT, lab.FaultRandomBMBT,
	}},
	{"inode", 2, []lab.FaultClass{lab.FaultNBlocks, lab.FaultReflinkFlag, lab.FaultRandomInode, lab.FaultRandomInode, lab.FaultRandomInode}},
	{"bnobt", 2, []lab.FaultClass{
		lab.FaultBnoStart, lab.FaultBnoShorter, lab.FaultBnoLonger, lab.FaultFreeUsed, lab.FaultLeak, lab.FaultRandomBno, lab.FaultRandomBno,
	}},
	{"cntbt", 1, []lab.FaultClass{lab.FaultCntLength, lab.FaultCntRemoved, lab.FaultRandomCnt}},
	{"inobt", 2, []lab.FaultClass{
		lab.FaultInobtFreeCount, lab.FaultInobtFreed, lab.FaultInobtUsed, lab.FaultInobtHoleMask, lab.FaultInobtCount, lab.FaultInobtRemoved,
		lab.FaultRandomIno, lab.FaultRandomIno,
	}},
	{"finobt", 1, []lab.FaultClass{lab.FaultFinoFreeCount, lab.FaultFinoBits, lab.FaultFinoRemoved, lab.FaultRandomFino}},
	{"agf", 2, []lab.FaultClass{
		lab.FaultAGFFreeBlks, lab.FaultAGFLongest, lab.FaultAGFBtreeBlks, lab.FaultRandomAGF, lab.FaultRandomAGF, lab.FaultRandomAGF,
	}},
	{"agi", 1, []lab.FaultClass{lab.FaultAGICount, lab.FaultAGIFreeCount, lab.FaultRandomAGI, lab.FaultRandomAGI}},
	{"agfl", 1, []lab.FaultClass{lab.FaultAGFL, lab.FaultRandomAGFL}},
	{"superblock", 1, []lab.FaultClass{lab.FaultSBFDBlocks, lab.FaultSBICount, lab.FaultSBIFree}},
}

// drawClass draws a class of faults.
func drawClass(rng *rand.Rand) lab.FaultClass {
	total := 0
	for _, s := range structures {
		total += s.weight
	}
	at := rng.IntN(total)
	for _, s := range structures {
		if at -= s.weight; at < 0 {
			return s.classes[rng.IntN(len(s.classes))]
		}
	}
	return lab.FaultRandomRmap
}

// draw draws what attempt number n at the case does. The geometry is that of
// the case, so that its base is copied once.
func (c Case) draw(n int) draw {
	h := fnv.New64a()
	_, _ = fmt.Fprintf(h, "%s", c)
	all := Geometries()
	d := draw{Geometry: all[rand.New(rand.NewPCG(h.Sum64(), c.Seed)).IntN(len(all))].Name}
	rng := rand.New(rand.NewPCG(h.Sum64(), uint64(n)))
	d.Live = rng.IntN(2) == 0
	d.Seed = rng.Uint64N(1 << 32)
	faults := map[Kind]int{Single: 1, Double: 2}[c.Kind]
	for range faults {
		d.Faults = append(d.Faults, faultSpec{Class: drawClass(rng), Seed: rng.Uint64N(1 << 32)})
	}
	if c.Kind == Lost {
		classes := lab.LostClasses()
		d.Lost = classes[rng.IntN(len(classes))]
	}
	return d
}
