package tokencache

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Of a session at the authorization server a record of its own is kept: the tickets of
// the sign-ins that came from it, sealed like tokens, under a name that is an HMAC of
// the session's, so that who is told of its end on whatever machine finds what ends
// with it. It lives as long as a partition may after a sign-in, also when that has been
// signed out: the server may tell of the end of a session that ended here first. Its
// owner is the session, as nobody knows of which account it is, and one owner of all
// would be the one slot, or row, that everybody writes to.

// A partition has the sessions in it that it was signed in from, and when it is removed
// it is forgotten there. With the last one the record becomes a tombstone for the rest of
// its life: nothing of the user is left, and who is told of the end of the session still
// knows that there is nothing to do.

// sidRecord is what is kept of a session.
type sidRecord struct {
	Tickets []string `json:"tickets,omitempty"` // encoded, oldest first
	Ended   int64    `json:"ended,omitempty"`   // when its end was told last, in nanoseconds since 1970

	// forgotten: there were tickets, and there are none any more.
	forgotten bool
}

const (
	// sidField is the member of the record's document that has it.
	sidField = "coatcheck_session"
	// sidsField is the member of a partition's document that has its sessions.
	sidsField = "coatcheck_sessions"
	// sidTickets bounds the sign-ins of one session. With another one the oldest ends:
	// what is forgotten could not be ended later.
	sidTickets = 32
	// maxSID bounds the name of a session, in bytes: partitions have 32 of them.
	maxSID = 256
)

var errSIDEnded = fmt.Errorf("%w: the session at the authorization server has ended meanwhile", ErrRemoved)

// SignOutSID signs out what was signed in from one session at the authorization server
// ([Grant].SID), on whatever machine. A sign-in with [Cache.SignInSession] ends by
// itself; one that has joined the account's partition ends that as a whole, as nobody
// can tell the tokens of one browser from those of another in it. What was obtained on
// behalf of incoming tokens stays, and so does a sign-in that came later. A sign-in
// that is under way fails with [ErrRemoved].
//
// The function, unless nil, returns the server that revokes a partition's refresh
// token. It tells whether anything is known of the session: nothing is if it began more
// than [Options].AbsoluteTimeout ago, or its grants had no SID.
//
// Errors are those of [Partition.SignOut], joined, after which it can be repeated; and
// one that is [errors.ErrUnsupported] where the provider has no [OwnerIndex], or the
// hooks are the persistence: sign-ins are not noted there.
func (c *Cache) SignOutSID(ctx context.Context, sid string, server func(*Partition) Server) (known bool, err error) {
	if !c.notesSIDs() {
		return false, errNoIndex
	}
	var tickets []Ticket
	err = c.amendSID(ctx, sid, func(r *sidRecord, end time.Time) (time.Time, error) {
		tickets = parseTickets(r.Tickets)
		known = len(tickets) > 0 || r.forgotten
		now := time.Now()
		r.Ended = now.UnixNano()
		if least := now.Add(tombstoneLife); end.Before(least) {
			end = least
		}
		return end, nil
	})
	if err != nil {
		return false, err
	}
	if err := c.signOutAll(ctx, tickets, server); err != nil {
		return known, err
	}
	over := make(map[string]bool)
	for _, t := range tickets {
		over[t.Encode()] = true
	}
	return known, c.forgetSID(ctx, sid, func(t Ticket) bool { return over[t.Encode()] })
}

// signOutAll signs each of them out, a few at a time: the server may be slow to revoke.
func (c *Cache) signOutAll(ctx context.Context, tickets []Ticket, server func(*Partition) Server) error {
	var group errgroup.Group
	group.SetLimit(restoreAtOnce)
	var mu sync.Mutex
	var errs []error
	for _, t := range tickets {
		group.Go(func() error {
			p := c.Partition(t.Key())
			err := guarded(func() error { // here a panic would end the program
				var s Server
				if server != nil {
					s = server(p)
				}
				return p.SignOut(ctx, s)
			})
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			return nil
		})
	}
	_ = group.Wait() // which fails for nobody
	return errors.Join(errs...)
}

// notesSIDs tells whether sign-ins are noted: where a provider cannot list what an
// account owns, another one may keep the record where only one browser finds it.
func (c *Cache) notesSIDs() bool { return !c.hooks.persist && c.store.caps.Owners != nil }

// noteSID notes a sign-in that began at some time, and lives until end at most. The
// error is errSIDEnded if the session has ended since it began.
func (c *Cache) noteSID(ctx context.Context, sid string, t Ticket, started, end time.Time) error {
	if sid == "" || len(sid) > maxSID || !c.notesSIDs() {
		return nil
	}
	var over []Ticket
	err := c.amendSID(anonymous{ctx}, sid, func(r *sidRecord, before time.Time) (time.Time, error) { //nolint:contextcheck // it is the sign-in's, but for the values
		if r.Ended != 0 && !time.Unix(0, r.Ended).Before(started) {
			return time.Time{}, errSIDEnded
		}
		text := t.Encode()
		r.Tickets = append(slices.DeleteFunc(r.Tickets, func(other string) bool { return other == text }), text)
		n := max(len(r.Tickets)-sidTickets, 0)
		over = parseTickets(r.Tickets[:n])
		r.Tickets, r.forgotten = r.Tickets[n:], false
		if end.Before(before) {
			return before, nil
		}
		return end, nil
	})
	if err != nil {
		return err
	}
	_ = c.signOutAll(ctx, over, nil) // which has its events
	return nil
}

// anonymous is a context without values. The sign-in's may say whose tokens are being
// stored, to a provider that ends them with a web session: a note is of no one's.
type anonymous struct{ context.Context }

// Value returns nil.
func (anonymous) Value(any) any { return nil }

// amendSID changes what is kept of a session, until no other writer comes between, for
// some 2 seconds. The change gets when the record ends, zero if there is none, and
// returns when it is to end.
func (c *Cache) amendSID(ctx context.Context, sid string, change func(r *sidRecord, end time.Time) (time.Time, error)) error {
	name, err := c.names.name(keyID{kind: kindSID, part: sid})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	err = ErrConflict
	for attempt := 0; attempt < saveAttempts && errors.Is(err, ErrConflict); attempt++ {
		if attempt > 0 {
			sleep(ctx, 5*time.Millisecond)
		}
		err = patiently(ctx, func() error { return c.amendSIDOnce(ctx, name, change) })
	}
	return ownDeadline(err)
}

func (c *Cache) amendSIDOnce(ctx context.Context, name Name, change func(*sidRecord, time.Time) (time.Time, error)) error {
	st, err := c.store.load(ctx, name)
	if err != nil {
		return err
	}
	r, end := readSID(st)
	if end, err = change(&r, end); err != nil {
		return err
	}
	if r.forgotten {
		// Its version says when the session has ended, 1970 if it has not.
		tomb := Record{Version: newRemoval(time.Unix(0, r.Ended)), Mark: st.mark, Expires: end}
		return c.store.save(ctx, name, tomb, st.condition())
	}
	value, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("tokencache: encode a session: %w", err)
	}
	d := &document{unknown: []field{{name: sidField, value: value}}}
	plain, err := encodePlain(meta{end: end, mark: st.mark}, d, time.Now())
	if err != nil {
		return err
	}
	rec := Record{Version: NewVersion(), Mark: st.mark, Expires: end}
	if rec.Sealed, err = c.store.sealer.seal(name, rec.Version, plain); err != nil {
		return unavailable("seal", err)
	}
	return c.store.save(ctx, name, rec, st.condition())
}

// readSID reads what is kept. Nothing, and what does not open, is nothing known.
func readSID(st *state) (r sidRecord, end time.Time) {
	if st.buried {
		return sidRecord{Ended: removalTime(st.version).UnixNano(), forgotten: true}, st.expires
	}
	if st.snap == nil {
		return sidRecord{}, time.Time{}
	}
	d, err := st.snap.document()
	if err != nil || d.member(sidField, &r) != nil {
		return sidRecord{}, st.snap.end
	}
	return r, st.snap.end
}

// member decodes a member that is none of the schema's, if it is there.
func (d *document) member(name string, into any) error {
	for _, f := range d.unknown {
		if f.name == name {
			return json.Unmarshal(f.value, into)
		}
	}
	return nil
}

// sidSeen is what a partition has of a session that it was signed in from, by its name:
// an object of objects, as all members of MSAL's schema are.
type sidSeen struct {
	At int64 `json:"at"` // the last sign-in, in nanoseconds since 1970
}

// sids are the sessions that a partition was signed in from.
func (d *document) sids() map[string]sidSeen {
	seen := make(map[string]sidSeen)
	if d.member(sidsField, &seen) != nil || seen == nil {
		return make(map[string]sidSeen)
	}
	return seen
}

// addSID notes a session in the partition. Beyond sidTickets the oldest is left out.
func (d *document) addSID(sid string, now time.Time) {
	if sid == "" || len(sid) > maxSID {
		return
	}
	seen := d.sids()
	seen[sid] = sidSeen{now.UnixNano()}
	names := slices.SortedFunc(maps.Keys(seen), func(a, b string) int { return cmp.Compare(seen[b].At, seen[a].At) })
	for _, name := range names[min(len(names), sidTickets):] {
		delete(seen, name)
	}
	value, _ := json.Marshal(seen) // text and numbers: cannot fail
	d.unknown = slices.DeleteFunc(d.unknown, func(f field) bool { return f.name == sidsField })
	d.unknown = append(d.unknown, field{name: sidsField, value: value})
	slices.SortFunc(d.unknown, func(a, b field) int { return strings.Compare(a.name, b.name) })
}

// forgetSIDs has the sessions forget a partition that was removed. What cannot be
// reached at the moment stays, sealed, until it ends.
func (c *Cache) forgetSIDs(ctx context.Context, st *state) {
	held := cmp.Or(st.snap, st.lost)
	if held == nil || !c.notesSIDs() {
		return
	}
	d, err := held.document()
	if err != nil {
		return
	}
	for sid := range d.sids() {
		_ = c.forgetSID(ctx, sid, func(t Ticket) bool {
			name, err := c.names.name(t.Key().id)
			return err == nil && name == st.name && t.generation == held.generation
		})
	}
}

// forgetSID drops tickets from what is kept of a session.
func (c *Cache) forgetSID(ctx context.Context, sid string, over func(Ticket) bool) error {
	err := c.amendSID(anonymous{ctx}, sid, func(r *sidRecord, end time.Time) (time.Time, error) { //nolint:contextcheck // it is the sign-out's, but for the values
		before := len(r.Tickets)
		r.Tickets = slices.DeleteFunc(r.Tickets, func(text string) bool {
			t, err := ParseTicket(text)
			return err == nil && over(t)
		})
		if len(r.Tickets) == before {
			return end, errNothingToForget
		}
		r.forgotten = len(r.Tickets) == 0
		return end, nil
	})
	if errors.Is(err, errNothingToForget) {
		return nil
	}
	return err
}

var errNothingToForget = errors.New("tokencache: there is nothing to forget")

func parseTickets(texts []string) []Ticket {
	var list []Ticket
	for _, text := range texts {
		if t, err := ParseTicket(text); err == nil {
			list = append(list, t)
		}
	}
	return list
}
