package daemon

import (
	"time"

	"github.com/scrubd/scrubd/service/schedule"
)

// Answer is what became of a timer's request for one filesystem.
type Answer struct {
	Mount string `json:"mount"`
	// State is the filesystem's, as in [Status].
	State string `json:"state"`
	// Next is when its next run is planned.
	Next *time.Time `json:"next,omitempty"`
	// Text says in words why nothing was queued, "" when a run is there or queued.
	Text string `json:"text,omitempty"`
}

// Due is a timer's request for a run of the filesystem mounted at a path, or of
// all of them if the path is empty. The period is the queue's to keep: a run that
// was in this period already, or that the daemon has planned, is not asked for
// once more. Only where there is no period is the request itself the plan; it
// then waits for a window, as what is planned does.
//
// Errors: [ErrUnknown], [*CopyError], for one path.
func (d *Daemon) Due(path string, now time.Time) ([]Answer, error) {
	if path != "" {
		var answer Answer
		err := d.with(path, func(t *target) error {
			answer = d.dueNow(t, now)
			return nil
		})
		return []Answer{answer}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	answers := make([]Answer, 0, len(d.targets))
	for _, t := range d.sorted() {
		answers = append(answers, d.dueNow(t, now))
	}
	d.Wake()
	return answers, nil
}

func (d *Daemon) dueNow(t *target, now time.Time) Answer {
	e := d.effective(t)
	d.lookAtProperty(t, now)
	if e.Policy.Period <= 0 && !e.Skip && !t.forbidden && !t.running && !d.saved.Paused[t.uuid] && !t.NoRecovery {
		if _, waits := d.saved.Wanted[t.uuid]; !waits {
			d.saved.Wanted[t.uuid] = now
			d.remember()
		}
	}
	s := d.statusOf(t, now)
	a := Answer{Mount: s.Mount, State: s.State, Next: s.Next}
	switch {
	case s.State == StatePaused:
		a.Text = ErrPaused.Error()
	case s.State == StateSkipped && t.forbidden:
		a.Text = ErrForbids.Error()
	case s.State == StateSkipped:
		a.Text = "the configuration says that it is not checked"
	case s.State == StateIdle && s.Next == nil:
		a.Text = "it is mounted with norecovery"
	case s.State == StateIdle && s.LastComplete != nil && e.Policy.Period > 0:
		a.Text = "it was checked on " + s.LastComplete.Local().Format(time.DateTime) + "; the next check is planned for " +
			s.Next.Local().Format(time.DateTime)
	case s.State == StateIdle:
		a.Text = "its check is planned for " + s.Next.Local().Format(time.DateTime)
	}
	return a
}

// DueAlone is Due for a daemon that is there for one request, where there is no
// other: nobody keeps slots, so all that was not checked just now is asked for,
// for at once. policy is what the configuration says of the period.
//
// Errors: as of [Daemon.Due].
func (d *Daemon) DueAlone(path string, policy func(uuid, mount string) schedule.Policy, now time.Time) ([]Answer, error) {
	one := func(t *target) Answer {
		a := Answer{Mount: t.Point, State: StateQueued}
		e := d.effective(t)
		d.lookAtProperty(t, now)
		switch {
		case t.running:
			a.State = StateRunning
		case d.saved.Paused[t.uuid]:
			a.State, a.Text = StatePaused, ErrPaused.Error()
		case t.forbidden:
			a.State, a.Text = StateSkipped, ErrForbids.Error()
		case e.Skip:
			a.State, a.Text = StateSkipped, "the configuration says that it is not checked"
		case t.NoRecovery:
			a.State, a.Text = StateIdle, "it is mounted with norecovery"
		case schedule.Recent(policy(t.uuid, t.Point), t.history, now):
			a.State, a.Text = StateIdle, "it was checked on "+t.history.Complete.Local().Format(time.DateTime)
		case t.asked.IsZero():
			t.asked = now
		}
		return a
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if path != "" {
		t, err := d.find(path)
		if err != nil {
			return nil, err
		}
		return []Answer{one(t)}, nil
	}
	answers := make([]Answer, 0, len(d.targets))
	for _, t := range d.sorted() {
		answers = append(answers, one(t))
	}
	return answers, nil
}

// Busy tells whether anything is running or queued, or will be when its window
// opens.
func (d *Daemon) Busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range d.targets {
		if t.running || !t.asked.IsZero() && !t.forbidden {
			return true
		}
	}
	return false
}
