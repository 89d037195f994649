package walk

import (
	"context"
	"maps"
	"slices"

	"github.com/scrubd/scrubd/ioctl"
)

// reach reads directories that could not be opened by handle, after
// Options.Reach has opened them in another way.
func (s *shared) reach(ctx context.Context) error {
	far := make(map[ioctl.Ino]ioctl.Gen)
	for _, u := range s.res.Unreadable {
		if u.Stage == StageReach {
			far[u.Ino] = u.Gen
		}
	}
	if len(far) == 0 || s.options.Reach == nil {
		return nil
	}
	if err := s.options.Reach(ctx, far); err != nil {
		return err
	}
	// Those that still cannot be read are noted again.
	s.res.Unreadable = slices.DeleteFunc(s.res.Unreadable, func(u Unreadable) bool { return u.Stage == StageReach })
	s.res.UnreadableTotal -= uint64(len(far))
	w := s.newWorker(ctx, 1)
	for _, u := range slices.Sorted(maps.Keys(far)) {
		if err := w.readOne(ctx, u); err != nil {
			return err
		}
	}
	return w.flush()
}
