package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// Intent is one repair call that was about to be made when it was written.
type Intent struct {
	RunID     string `json:"run_id"`
	FindingID string `json:"finding_id"`
	// What names the call in words, Summary what it was for.
	What    string `json:"what"`
	Summary string `json:"summary,omitempty"`
	// ScrubType, AGNo, Ino, Gen and Forced are the call.
	ScrubType string `json:"scrub_type"`
	AGNo      uint32 `json:"agno"`
	Ino       uint64 `json:"inode,omitempty"`
	Gen       uint32 `json:"generation,omitempty"`
	Forced    bool   `json:"forced,omitempty"`
	// EvidencePath is where the evidence of the finding was saved, "" where it
	// has none.
	EvidencePath string `json:"evidence_path,omitempty"`
	// Boot is the boot of the machine that it was written in.
	Boot  string    `json:"boot_id,omitempty"`
	Began time.Time `json:"began"`
	// Ended is when the call had come back, with Error if it failed; zero while
	// it had not.
	Ended time.Time `json:"ended"`
	Error string    `json:"error,omitempty"`
}

// The states of a record. What a pass has proven is closed; of everything else
// the next run has to say what was going on.
const (
	stateBegan  = "began"
	stateEnded  = "ended"
	stateClosed = "closed"
)

// record is what a slot of the log holds.
type record struct {
	seq    uint64
	State  string `json:"state"`
	Intent Intent `json:"intent"`
}

func (r *record) open() bool { return r.State == stateBegan || r.State == stateEnded }

// The log is a file of slots that all have the size of the largest sector: a
// write that a power loss cuts off damages that slot alone.
const (
	slotSize  = 4096
	slotCount = 64
	logSize   = slotSize * slotCount
)

// A slot: magic, sequence number, length of the JSON that follows, checksum
// (CRC32C over all of it with this field zero); little-endian. The rest of the
// slot is zeros, and so is a slot that was never used.
const (
	slotMagic    = "SCRUBDI1"
	offSeq       = 8
	offLength    = 16
	offChecksum  = 20
	offPayload   = 24
	maxPayload   = slotSize - offPayload
	maxTextBytes = 256 // of each free text, so that every record fits its slot
)

// errTorn is a slot that is neither empty nor whole: its last write was cut off.
var errTorn = errors.New("the record is torn")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// encode fills a slot.
func (r *record) encode() ([]byte, error) {
	short := *r
	for _, s := range []*string{
		&short.Intent.RunID, &short.Intent.FindingID, &short.Intent.What, &short.Intent.Summary,
		&short.Intent.ScrubType, &short.Intent.Boot, &short.Intent.Error,
	} {
		*s = cut(*s, maxTextBytes)
	}
	payload, err := json.Marshal(&short)
	if err == nil && len(payload) > maxPayload { // control characters take six bytes each, a path is long
		short.Intent.Summary, short.Intent.Error, short.Intent.EvidencePath = "", "", ""
		payload, err = json.Marshal(&short)
	}
	if err == nil && len(payload) > maxPayload {
		err = fmt.Errorf("its %d bytes do not fit", len(payload))
	}
	if err != nil {
		return nil, fmt.Errorf("encode an intent: %w", err)
	}
	slot := make([]byte, slotSize)
	copy(slot, slotMagic)
	binary.LittleEndian.PutUint64(slot[offSeq:], r.seq)
	binary.LittleEndian.PutUint32(slot[offLength:], uint32(len(payload)))
	copy(slot[offPayload:], payload)
	binary.LittleEndian.PutUint32(slot[offChecksum:], checksum(slot, len(payload)))
	return slot, nil
}

// cut shortens s to n bytes at most.
func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

func checksum(slot []byte, length int) uint32 {
	sum := crc32.Update(0, castagnoli, slot[:offChecksum])
	sum = crc32.Update(sum, castagnoli, make([]byte, offPayload-offChecksum))
	return crc32.Update(sum, castagnoli, slot[offPayload:offPayload+length])
}

// decode reads a slot: nil for one that was never used.
//
// Errors: errTorn.
func decode(slot []byte) (*record, error) {
	if len(bytes.Trim(slot, "\x00")) == 0 {
		return nil, nil //nolint:nilnil // an empty slot is neither a record nor an error
	}
	if len(slot) < offPayload || string(slot[:len(slotMagic)]) != slotMagic {
		return nil, errTorn
	}
	length := binary.LittleEndian.Uint32(slot[offLength:])
	if uint64(length) > uint64(len(slot)-offPayload) ||
		binary.LittleEndian.Uint32(slot[offChecksum:]) != checksum(slot, int(length)) {
		return nil, errTorn
	}
	r := &record{}
	if err := json.Unmarshal(slot[offPayload:offPayload+length], r); err != nil {
		return nil, fmt.Errorf("%w: %w", errTorn, err)
	}
	r.seq = binary.LittleEndian.Uint64(slot[offSeq:])
	if !r.open() && r.State != stateClosed {
		return nil, fmt.Errorf("%w: state %q", errTorn, r.State)
	}
	return r, nil
}
