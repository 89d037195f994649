package campaign

import (
	"fmt"
	"slices"
	"strings"

	"github.com/scrubd/scrubd/internal/lab"
	"github.com/scrubd/scrubd/ioctl"
)

// HoldReason names one of the reasons for which it is right to hold a fault
// instead of repairing it. docs/campaign.md has the list, with the ground of
// each; no other reason counts.
type HoldReason string

// The reasons. Each is a fact about the damage, not about what scrubd says.
const (
	UnwrittenTie   HoldReason = "unwritten-tie"
	OnlyTrace      HoldReason = "only-trace"
	ForkAlone      HoldReason = "fork-alone"
	NoWitness      HoldReason = "no-witness"
	Unloadable     HoldReason = "unloadable"
	KernelCannot   HoldReason = "kernel-cannot"
	SourceDisputed HoldReason = "source-disputed"
)

// HoldReasons are the reasons with their grounds in a sentence.
var HoldReasons = map[HoldReason]string{
	UnwrittenTie:   "fork and rmapbt disagree about the unwritten flag with the fork saying unwritten: nothing else on the disk knows",
	OnlyTrace:      "the rmapbt has a record that a fork lacks with its counters, and neither the bnobt nor another owner denies it: it may be the only trace of lost data",
	ForkAlone:      "a fork maps other blocks than its inode owns, with counters that agree with it: blocks that another owner has, or that are free, so that either may be the one that is wrong",
	NoWitness:      "the blocks are, or are said to be, those of a btree, an AGFL, a link or a special file, which nothing outside of the kernel can list",
	Unloadable:     "the kernel refuses to load the inode: only repairs that rewrite it and may empty its forks could go on",
	KernelCannot:   "the one repair there is hangs or crashes the kernel or does damage (inode btrees where there are no sparse chunks), or the kernel has none",
	SourceDisputed: "both faults are in one AG, or one inode, so that the repair of either would read what the other has damaged",
}

// Oracle is what is right about a case, from the injection alone.
type Oracle struct {
	// AtFault has every structure that may rightly be blamed.
	AtFault []string `json:"at_fault,omitempty"`
	// Hold has every reason for which the case may rightly be held.
	Hold []HoldReason `json:"hold,omitempty"`
}

// truth is the space of the filesystem before the damage.
type truth struct {
	rmaps map[ioctl.AGNumber][]lab.RmapRec
	links map[ioctl.Ino]bool // inodes of which userspace cannot list the blocks

	agblocks, agcount, last uint64 // size of a group, their number, size of the last one
	agblklog                uint8
	sparse                  bool // inode chunks may have holes
}

func readTruth(img *lab.Image) (*truth, error) {
	sb := &img.SB
	t := &truth{
		rmaps: make(map[ioctl.AGNumber][]lab.RmapRec), links: make(map[ioctl.Ino]bool),
		agblocks: uint64(sb.AGBlocks), agcount: uint64(sb.AGCount), agblklog: sb.AGBlockLog,
		last: sb.DBlocks - uint64(sb.AGCount-1)*uint64(sb.AGBlocks), sparse: sb.HasSparse(),
	}
	for agno := range ioctl.AGNumber(img.SB.AGCount) {
		tree, err := img.RmapBT(agno)
		if err != nil {
			return nil, fmt.Errorf("read the space before the damage: %w", err)
		}
		for e, err := range tree.All() {
			if err != nil {
				return nil, fmt.Errorf("read the space before the damage: %w", err)
			}
			t.rmaps[agno] = append(t.rmaps[agno], e.Rec)
		}
		for core, err := range img.Inodes(agno) {
			if err != nil {
				return nil, fmt.Errorf("read the space before the damage: %w", err)
			}
			if !core.IsRegular() && !core.IsDirectory() {
				t.links[ioctl.Ino(core.Ino)] = true
			}
		}
	}
	for ino := range img.MetaInodes() {
		t.links[ino] = true
	}
	return t, nil
}

// What the blocks of a record that is not true are in truth.
type use struct {
	free, forks, hidden bool // some are free; some are data of files; some belong to what nobody can list
	others              int  // the most records of forks over one of its blocks
}

// hiddenOwner tells whether nothing in userspace can list the blocks of a record.
func (t *truth) hiddenOwner(r lab.RmapRec) bool {
	switch {
	case r.Owner == lab.OwnerFS, r.Owner == lab.OwnerLog, r.Owner == lab.OwnerInodes:
		return false
	case !r.IsInode():
		return true
	}
	return r.BMBTBlock || t.links[ioctl.Ino(r.Owner)]
}

func (t *truth) use(agno ioctl.AGNumber, start ioctl.AGBlock, count uint32) use {
	var u use
	end := uint64(start) + uint64(min(count, 1<<20))
	covered := uint64(start)
	for _, r := range t.rmaps[agno] {
		if uint64(r.StartBlock) >= end || r.End() <= start {
			continue
		}
		if uint64(r.StartBlock) > covered {
			u.free = true
		}
		covered = max(covered, uint64(r.End()))
		if t.hiddenOwner(r) {
			u.hidden = true
		} else {
			u.forks = true
		}
		u.others++
	}
	u.free = u.free || covered < end
	return u
}

// inside tells whether an extent lies in one group, as the kernel wants it.
func (t *truth) inside(r lab.ExtentRec) bool {
	agno, agbno := uint64(r.StartBlock)>>t.agblklog, uint64(r.StartBlock)&(1<<t.agblklog-1)
	size := t.agblocks
	if agno == t.agcount-1 {
		size = t.last
	}
	return agno < t.agcount && r.BlockCount > 0 && agbno+uint64(r.BlockCount) <= size
}

// oracle judges injections by what was true before them.
func (t *truth) oracle(all []lab.Injected) Oracle {
	var o Oracle
	for _, in := range all {
		o.add(t.one(in))
	}
	if len(all) > 1 && meet(all[0], all[1]) {
		o.add(Oracle{Hold: []HoldReason{SourceDisputed}})
	}
	slices.Sort(o.AtFault)
	slices.Sort(o.Hold)
	return Oracle{AtFault: slices.Compact(o.AtFault), Hold: slices.Compact(o.Hold)}
}

func (o *Oracle) add(p Oracle) {
	o.AtFault = append(o.AtFault, p.AtFault...)
	o.Hold = append(o.Hold, p.Hold...)
}

// meet tells whether two faults are in one AG or one inode.
func meet(a, b lab.Injected) bool {
	return a.AGNo == b.AGNo || a.Ino != 0 && a.Ino == b.Ino
}

// The names that scrubd's reports have for what may be blamed.
var (
	blameRmap     = []string{"rmapbt"}
	blameRefcount = []string{"refcountbt"}
	blameFree     = []string{"bnobt", "cntbt", "agf", "fscounters"}
	blameInodes   = []string{"inobt", "finobt", "agi", "fscounters"}
	blameFork     = []string{"data fork", "attribute fork", "fork", "inode", "reflink flag", "bmapbtd", "bmapbta"}
	blameAGF      = []string{"agf", "bnobt", "cntbt", "rmapbt", "refcountbt", "agfl", "fscounters"}
	blameAGI      = []string{"agi", "inobt", "finobt", "fscounters"}
	blameAGFL     = []string{"agfl", "agf"}
	blameSB       = []string{"fscounters", "sb"}
)

// one judges a single injection.
func (t *truth) one(in lab.Injected) Oracle {
	name := string(in.Class)
	switch {
	case in.Class == lab.FaultLostRmapbt, in.Class == lab.FaultRandomRmap, strings.HasPrefix(name, "rmap-"):
		return Oracle{blameRmap, t.holdRmap(in)}
	case in.Class == lab.FaultLostRefcount, in.Class == lab.FaultRandomRefcount, strings.HasPrefix(name, "refcount-"):
		return Oracle{AtFault: blameRefcount}
	case in.Class == lab.FaultLostInobt, in.Class == lab.FaultLostFinobt, in.Class == lab.FaultRandomIno, in.Class == lab.FaultRandomFino,
		strings.HasPrefix(name, "inobt-"), strings.HasPrefix(name, "finobt-"):
		o := Oracle{AtFault: blameInodes}
		if !t.sparse {
			// Linux 7.2 makes inodes free that are in use when it rebuilds an inobt there.
			o.Hold = []HoldReason{KernelCannot}
		}
		return o
	case in.Class == lab.FaultRandomAGFL, in.Class == lab.FaultAGFL:
		return Oracle{blameAGFL, []HoldReason{NoWitness}}
	case in.Class == lab.FaultRandomAGF, strings.HasPrefix(name, "agf-"):
		return Oracle{AtFault: blameAGF}
	case in.Class == lab.FaultRandomAGI, strings.HasPrefix(name, "agi-"):
		return Oracle{AtFault: blameAGI}
	case strings.HasPrefix(name, "sb-"):
		return Oracle{AtFault: blameSB}
	case in.Class == lab.FaultRandomInode, in.Class == lab.FaultNBlocks:
		return Oracle{blameFork, holdCounter(in)}
	case in.Class == lab.FaultFreeUsed, in.Class == lab.FaultLeak, in.Class == lab.FaultRandomBno, in.Class == lab.FaultRandomCnt,
		in.Class == lab.FaultLostBnobt, in.Class == lab.FaultLostCntbt, strings.HasPrefix(name, "bno-"), strings.HasPrefix(name, "cnt-"):
		return Oracle{AtFault: blameFree}
	case in.Class == lab.FaultReflinkFlag:
		return Oracle{AtFault: blameFork}
	case in.Class == lab.FaultForkWritten:
		// What is read stays as it was before the run: the rmapbt follows.
		return Oracle{AtFault: append(slices.Clone(blameFork), "rmapbt")}
	case in.Class == lab.FaultForkLost:
		return Oracle{AtFault: blameFork}
	case in.Class == lab.FaultLostDinode:
		return Oracle{append(slices.Clone(blameFork), "rmapbt", "nlinks"), []HoldReason{OnlyTrace, ForkAlone}}
	case in.Class == lab.FaultLostBmbt, in.Class == lab.FaultBMBTPointer:
		return Oracle{blameFork, []HoldReason{OnlyTrace, ForkAlone}}
	case in.Ino != 0 && in.Owner == uint64(in.Ino):
		return Oracle{append(slices.Clone(blameFork), "rmapbt"), t.holdFork(in)}
	default:
		return Oracle{}
	}
}

// holdRmap judges changed, added and removed rmap records.
func (t *truth) holdRmap(in lab.Injected) []HoldReason {
	var out []HoldReason
	for _, e := range in.Edits {
		was, had := e.Old.(lab.RmapRec)
		is, has := e.New.(lab.RmapRec)
		if had && t.hiddenOwner(was) || has && t.hiddenOwner(is) {
			out = append(out, NoWitness)
		}
		if had && has && was.Unwritten && !is.Unwritten {
			out = append(out, UnwrittenTie)
		}
		if has {
			u := t.use(in.AGNo, is.StartBlock, is.BlockCount)
			if u.hidden {
				out = append(out, NoWitness)
			}
			if in.Class == lab.FaultLostRmapbt && u.forks {
				out = append(out, OnlyTrace)
			}
		}
	}
	return out
}

// holdFork judges a changed or removed extent of a fork.
func (t *truth) holdFork(in lab.Injected) []HoldReason {
	var out []HoldReason
	for _, e := range in.Edits {
		was, had := e.Old.(lab.ExtentRec)
		is, has := e.New.(lab.ExtentRec)
		switch {
		case had && !has:
			out = append(out, OnlyTrace)
		case had && has && is.Unwritten && !was.Unwritten:
			out = append(out, UnwrittenTie)
		case had && has && (is.StartBlock != was.StartBlock || is.Offset != was.Offset):
			out = append(out, ForkAlone, OnlyTrace)
		case had && has && is.BlockCount > was.BlockCount:
			out = append(out, ForkAlone)
		}
		if has && !t.inside(is) || in.Fork == ioctl.AttrFork && is.Unwritten {
			out = append(out, Unloadable)
		}
	}
	return out
}

// holdCounter judges a changed counter of an inode.
func holdCounter(in lab.Injected) []HoldReason {
	var out []HoldReason
	for _, e := range in.Edits {
		if fmt.Sprint(e.New) == "0" {
			out = append(out, KernelCannot)
		}
		if strings.HasSuffix(e.Where, " extents") {
			out = append(out, Unloadable)
		}
	}
	return out
}
