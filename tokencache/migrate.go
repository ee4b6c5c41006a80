package tokencache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// MigrateOptions are the optional settings of [Migrate]. The zero value of each field
// means its default; what is negative is an error.
type MigrateOptions struct {
	// Cursor goes on where another call has ended: it is the Cursor of a
	// [MigrateResult]. Defaults to the beginning.
	Cursor string
	// Journal is a provider of its own, over a store with nothing else in it, such as
	// another prefix. It remembers what was copied, so that Migrate can be repeated
	// while the source is in use; see there. It must have a [Lister], and holds no
	// tokens: versions and names. Each direction needs one of its own, and all calls of
	// that have the same. Remove it afterwards. Defaults to none.
	Journal Provider
	// RecordsPerSecond bounds how many names are worked on in a second, so that
	// enough of both backends is left to the application. Each takes five calls or
	// so, and two more with a Journal. Defaults to 1000.
	RecordsPerSecond int
	// AtOnce is how many are worked on at the same moment, at most 256. Defaults to 16.
	AtOnce int
	// Patience is for how long a backend that does not answer is asked again. Then
	// Migrate ends, and can go on from the cursor. Defaults to 30 seconds.
	Patience time.Duration
	// AllowUnencryptedStorage lets records be copied out of this process that are not
	// encrypted, for caches that have it in their [Options] on both sides.
	AllowUnencryptedStorage bool
	// Progress, unless nil, is told how far it is: about once a second while names are
	// worked on, and at the end. It is called by one goroutine at a time and must be
	// quick. Keep the Cursor somewhere to go on after the process was killed.
	Progress func(MigrateResult)
}

// MigrateResult tells what has become of the names that were worked on in one call.
type MigrateResult struct {
	// Cursor is where to go on ([MigrateOptions].Cursor), "" at the end. It is not a
	// secret.
	Cursor string
	// Names is how many were worked on. Each counts in one of the following as well.
	Names int64
	// Copied is how many records are in the target now that were not, or that took the
	// place of an earlier copy.
	Copied int64
	// Same is how many were there already.
	Same int64
	// Left is how many were left alone: the target has something else, such as a newer
	// sign-in, or the account was signed out everywhere there.
	Left int64
	// Removed is how many removals were carried over: tombstones.
	Removed int64
	// Gone is how many have expired or vanished.
	Gone int64
	// Refused is how many were not copied since they are not encrypted, or are no
	// records of a [Cache].
	Refused int64
	// Failed is how many could not be copied, although both backends answer.
	Failed int64
}

// Migrate copies what one provider holds into another. The source must have a
// [Lister]. Records are copied as they are, with their versions and expiries, and no
// keys are needed: the caches on both sides have the same [Keys] and [Namespace], or
// nothing of it is found or opens. Each copy is loaded again and compared, and the
// source is looked at once more. Nothing is ever written to the source.
//
// Something else in the target wins: a user who has signed in there keeps that, and
// an account that was signed out there stays signed out, as long as the target knows:
// five minutes after [Partition.SignOut] nothing there tells of it any more, unless what
// was signed out had been copied with a Journal. Tombstones are copied too, and
// so are the marks of accounts that were signed out everywhere; what was removed in
// the source does not come back in the target. Where such an account has signed in to
// the target as well, the rest of what it has in the source is left, as nobody can tell
// without keys what of it was removed.
//
// It can be interrupted at any moment and repeated, and may run on several machines at
// once.
//
// # With a pause
//
// Stop the application, run Migrate, and start the application on the target. Nobody
// notices but for the pause. All of it takes about a second per RecordsPerSecond.
//
// # Without a pause
//
// Start the application on the target, wait until the last machine on the source has
// stopped, and then run Migrate. A user who comes before their record is there has
// [ErrNoTokens] and signs in again, which usually asks them nothing; their record in the
// source is then left. Do not run it earlier: without a Journal, what was copied is
// never replaced. A refresh token that the source has rotated since would be stale in
// the target, and servers take its use for theft and end the sign-in; and whoever signed
// out since would be signed in.
//
// # With a Journal
//
// Run Migrate while the application works with the source, as often as you like, then
// start the application on the target, and when the last machine on the source has
// stopped, run it once more. Each run brings the target up to date with the source: what
// has changed there replaces its copy, and what was removed there is removed, as long as
// the target holds exactly a version that Migrate has put there. What anybody else has
// written in the target since is left, and what is gone from the target is not brought
// again: its user has signed out there. For a target that was emptied, begin with an
// empty Journal.
//
// Between the last run before the switch and the one after it, users have in the target
// what was copied. Most go on with it. Two things are late: whose refresh token the
// source has rotated meanwhile, and needs it in the target before the last run gets
// there, must sign in again; and a sign-out in the source is not heard of in the target
// until then. So have these two runs close together.
//
// What the source has no more, and has no tombstone of either, counts as removed,
// unless more is gone than is left: that is taken for a store that was emptied, and
// Migrate ends with an error. Do not run it with the Journal any more once the source is
// on its way out.
//
// # Errors
//
// The end of ctx; [ErrUnavailable] if a backend does not answer; [ErrCursor]; one that
// is [errors.ErrUnsupported] where there is no Lister; and at the end one that tells how
// many records were refused or failed. All but the last leave a Cursor to go on from.
// None has a name in it.
func Migrate(ctx context.Context, from, to Provider, options *MigrateOptions) (MigrateResult, error) {
	m, err := newMigration(from, to, options)
	if err != nil {
		return MigrateResult{}, err
	}
	defer m.drain(context.WithoutCancel(ctx))
	err = m.run(ctx)
	result := m.tell(true)
	if err == nil && result.Refused+result.Failed > 0 {
		err = fmt.Errorf("tokencache: %d records could not be copied, and %d were refused: "+
			"they are not encrypted (see MigrateOptions.AllowUnencryptedStorage) or no records of a Cache", result.Failed, result.Refused)
	}
	return result, err
}

const (
	migrateRate     = 1000
	migrateAtOnce   = 16
	migrateMost     = 256
	migratePatience = 30 * time.Second
	// migrateTimeout bounds each call. Nobody waits for them.
	migrateTimeout = 5 * time.Second
	// migrateRounds bounds how often a name is looked at that others write to.
	migrateRounds = 10
	// migrateInARow is how many records in a row may fail.
	migrateInARow = 8
	// migrateOff is by how much expiries may differ: backends round, and some keep a
	// remaining life rather than a date.
	migrateOff = 2 * time.Second
)

func (o *MigrateOptions) withDefaults() (MigrateOptions, error) {
	var out MigrateOptions
	if o != nil {
		out = *o
	}
	if out.RecordsPerSecond < 0 || out.AtOnce < 0 || out.AtOnce > migrateMost || out.Patience < 0 {
		return out, errors.New("tokencache: a number in MigrateOptions is out of range")
	}
	if out.RecordsPerSecond == 0 {
		out.RecordsPerSecond = migrateRate
	}
	if out.AtOnce == 0 {
		out.AtOnce = migrateAtOnce
	}
	if out.Patience == 0 {
		out.Patience = migratePatience
	}
	return out, nil
}

func newMigration(from, to Provider, options *MigrateOptions) (*migration, error) {
	opts, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	if from == nil || to == nil {
		return nil, errors.New("tokencache: Migrate needs two providers")
	}
	m := &migration{opts: opts, from: newEnd(from), to: newEnd(to)}
	if m.from.caps.Lister == nil {
		return nil, fmt.Errorf("tokencache: the source has no Lister: %w", errors.ErrUnsupported)
	}
	if opts.Journal != nil {
		m.journal = newEnd(opts.Journal)
		if m.journal.caps.Lister == nil {
			return nil, fmt.Errorf("tokencache: the Journal has no Lister: %w", errors.ErrUnsupported)
		}
	}
	m.result.Cursor = opts.Cursor
	if opts.Cursor != "" {
		if m.at, err = parseMigrateCursor(opts.Cursor); err != nil {
			return nil, err
		}
		if m.at.Phase == phaseJournal && m.journal == nil {
			return nil, ErrCursor
		}
	}
	return m, nil
}
