package scrub

import (
	"github.com/scrubd/scrubd/scrub/live"
)

// probeLive finds out whether the kernel tells of changes here.
func (r *run) probeLive() {
	live.RemoveStale() // whatever a run that was killed has left
	if r.opts.NoLive {
		r.coverage.LiveWhy = "switched off"
		return
	}
	if err := live.Probe(r.fs); err != nil {
		r.coverage.LiveWhy = reason(err)
		return
	}
	r.coverage.Live = true
}

// listen has the kernel tell feed of every change from now on, until the pass
// is closed. Where it cannot, nothing is told, and what has changed meanwhile
// is found by the confirm protocol.
func (p *pass) listen(feed live.Feed) {
	if !p.r.coverage.Live {
		return
	}
	var err error
	if p.stream, err = live.Start(p.r.fs, live.Options{Feed: feed}); err != nil {
		p.r.log.WithError(err).Warn("the kernel's changes cannot be followed")
	}
}

// quietStream is the stream that tells of quiet moments: the pass's own, or one
// for that alone. Errors: [live.ErrNoTracing].
func (p *pass) quietStream() (*live.Stream, error) {
	if p.stream != nil {
		return p.stream, nil
	}
	if p.moments == nil {
		var err error
		if p.moments, err = live.Start(p.r.fs, live.Options{}); err != nil {
			return nil, err
		}
	}
	return p.moments, nil
}

// hushed ends the pass's streams.
func (p *pass) hushed() {
	for _, s := range []*live.Stream{p.stream, p.moments} {
		if s == nil {
			continue
		}
		p.r.sum.LiveChanges += s.Stats().Changes
		p.r.sum.LiveLosses += s.Stats().Losses
		if err := s.Close(); err != nil {
			p.r.log.WithError(err).Warn("end tracing")
		}
	}
	p.stream, p.moments = nil, nil
}
