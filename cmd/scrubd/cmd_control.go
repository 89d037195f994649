package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scrubd/scrubd/service/daemon"
	"github.com/scrubd/scrubd/service/record"
)

// controlOptions are the flags of the commands that ask the daemon.
type controlOptions struct {
	socket string
	json   bool
}

// newControlCommands are the commands that ask the daemon.
func newControlCommands(std streams) []*cobra.Command {
	status := controlCommand(std, "status", "Show what the daemon knows of each filesystem, and what is next", cobra.NoArgs, runStatus)
	history := controlCommand(std, "history PATH", "Show the runs of a filesystem", cobra.ExactArgs(1), runHistory)
	wait := controlCommand(std, "wait PATH", "Wait until the run of a filesystem is done; its exit status is the command's", cobra.ExactArgs(1), runWait)
	post := func(use, short string, ask func(*daemon.Client, context.Context, string) error) *cobra.Command {
		cmd := controlCommand(std, use, short, cobra.MinimumNArgs(1),
			func(ctx context.Context, c *daemon.Client, _ *controlOptions, args []string, _ streams) error {
				return each(ctx, c, args, ask)
			})
		cmd.ValidArgsFunction = completeMounts(0)
		return cmd
	}
	history.ValidArgsFunction, wait.ValidArgsFunction = completeMounts(1), completeMounts(1)
	return []*cobra.Command{
		status, history, wait,
		post("pause PATH...", "Stop the run of a filesystem, and begin none until resume", (*daemon.Client).Pause),
		post("resume PATH...", "Take back pause", (*daemon.Client).Resume),
		post("cancel PATH...", "End the run of a filesystem; the next is that of the next period", (*daemon.Client).Cancel),
	}
}

func controlCommand(std streams, use, short string, args cobra.PositionalArgs,
	run func(context.Context, *daemon.Client, *controlOptions, []string, streams) error,
) *cobra.Command {
	o := &controlOptions{}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return operational(run(cmd.Context(), daemon.NewClient(o.socket), o, args, std))
		},
	}
	cmd.Flags().StringVar(&o.socket, "socket", daemon.Socket, "ask the daemon at `PATH`")
	if !strings.HasPrefix(short, "Stop") && !strings.HasPrefix(short, "Take") && !strings.HasPrefix(short, "End") {
		cmd.Flags().BoolVar(&o.json, "json", false, "print JSON (see docs/json.md)")
	}
	return cmd
}

// each asks for one path after the other; all are tried.
func each(ctx context.Context, c *daemon.Client, paths []string, ask func(*daemon.Client, context.Context, string) error) error {
	var failed error
	for _, path := range paths {
		abs, err := filepath.Abs(path)
		if err == nil {
			err = ask(c, ctx, abs)
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// queueRuns asks the daemon for runs.
func queueRuns(ctx context.Context, socket string, paths []string) error {
	err := each(ctx, daemon.NewClient(socket), paths, (*daemon.Client).Ask)
	if errors.Is(err, daemon.ErrNoDaemon) {
		err = &noDaemonError{Paths: paths, Err: daemon.ErrNoDaemon}
	}
	return operational(err)
}

// onlyWithNow refuses flags that say how to run where the daemon is to decide
// that: a check that turns out to be a repair helps nobody.
func onlyWithNow(flags *pflag.FlagSet, now bool) error {
	if now {
		return nil
	}
	var wrong []string
	flags.Visit(func(f *pflag.Flag) {
		if f.Name != "socket" {
			wrong = append(wrong, "--"+f.Name)
		}
	})
	if len(wrong) > 0 {
		return usageErrorf("run: %s only with --now: the daemon has its own configuration", strings.Join(wrong, ", "))
	}
	return nil
}

func printJSON(std streams, v any) error {
	if err := json.NewEncoder(std.out).Encode(v); err != nil {
		return &outputError{Err: err}
	}
	return nil
}

func runStatus(ctx context.Context, c *daemon.Client, o *controlOptions, _ []string, std streams) error {
	list, err := c.Status(ctx)
	if err != nil || o.json {
		return orJSON(err, std, list)
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, err = fmt.Fprintln(w, "MOUNT\tSTATE\tLAST COMPLETE\tNEXT\t")
	for i := range list {
		s := &list[i]
		more := s.Progress
		if s.State == daemon.StateQueued && s.Waits != "" {
			more = "waits for " + s.Waits
		}
		if s.Overdue {
			more = strings.TrimSpace("OVERDUE " + more)
		}
		if err == nil {
			_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", printable(s.Mount), s.State, day(s.LastComplete), day(s.Next), oneLine(more))
		}
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return &outputError{Err: err}
	}
	return nil
}

func orJSON(err error, std streams, v any) error {
	if err != nil {
		return err
	}
	return printJSON(std, v)
}

func day(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04")
}

func runHistory(ctx context.Context, c *daemon.Client, o *controlOptions, args []string, std streams) error {
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	runs, err := c.History(ctx, path)
	if err != nil || o.json {
		return orJSON(err, std, runs)
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	_, err = fmt.Fprintln(w, "BEGAN\tTOOK\tMODE\tSTATUS\tREPAIRS\t")
	for i := range runs {
		if r := &runs[i]; err == nil {
			_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", day(&r.Began), roundDuration(r.Ended.Sub(r.Began)), r.Mode, r.ExitStatus, r.Repairs, outcomeOf(r))
		}
	}
	if err = errors.Join(err, w.Flush()); err != nil {
		return &outputError{Err: err}
	}
	return nil
}

func outcomeOf(r *record.Run) string {
	if !r.Complete {
		return "not finished: " + oneLine(r.Reason)
	}
	return ""
}

// runWait ends with the status of the run that it waited for.
func runWait(ctx context.Context, c *daemon.Client, o *controlOptions, args []string, std streams) error {
	path, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	s, err := c.Wait(ctx, path)
	if err != nil {
		return err
	}
	if o.json {
		if err := printJSON(std, s); err != nil {
			return err
		}
	}
	switch {
	case s.Last == nil:
		return fmt.Errorf("%s: no run of it has left a record", printable(path))
	case s.Last.ExitStatus != 0:
		return &exitError{status: s.Last.ExitStatus, reported: true}
	default:
		return nil
	}
}
