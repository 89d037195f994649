// Package freeze stops the writers of a filesystem for a moment and sees to it
// that they go on in any event.
//
// It is not for deciding what is looked at in that moment (package confirm).
//
// A frozen filesystem whose freezer is gone stays frozen for ever: nobody can
// write, and what tries to hangs. So the program that wants to look never
// freezes itself. Another process does, the supervisor: it has no work but to
// thaw, lies outside of the program's session and control group, has all of its
// memory locked, and starts before anything is frozen. It thaws when it is asked
// to, when the time is up, and when the other end of their connection closes.
//
// A marker in /run says that the freeze is ours. The supervisor holds a lock on
// it, which the kernel releases with the process, so that a freeze whose
// supervisor was killed as well can be told from somebody else's and ended
// ([ThawStale]).
package freeze
