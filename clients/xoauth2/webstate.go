package xoauth2

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"slices"
	"time"
)

const (
	// maxBegun bounds what those who never come back leave in a session.
	maxBegun = 5
	// maxSteps bounds the steps that programs were told of, and those that were
	// taken within stepPause.
	maxSteps = 5
	// stepLife is how long a program's user may think about it.
	stepLife = time.Hour
	// stepPause is how long a step that was taken is not taken again.
	stepPause = 5 * time.Minute
	// sessionTimeout bounds what is asked of the session store.
	sessionTimeout = 5 * time.Second
)

// webState is what a Web keeps in the session, as JSON.
type webState struct {
	Begun []begun `json:"begun,omitempty"`
	Steps []step  `json:"steps,omitempty"`
	Met   []taken `json:"met,omitempty"`
}

// begun is a sign-in, until the browser comes back.
type begun struct {
	SignIn   string `json:"signin"`
	ReturnTo string `json:"return_to"`
	Need     string `json:"need,omitempty"` // of a step up: see need
}

// step is one that a program has to ask its user for.
type step struct {
	Ref      string   `json:"ref"`
	Scopes   []string `json:"scopes,omitempty"`
	Claims   string   `json:"claims,omitempty"`
	Need     string   `json:"need"`
	Account  string   `json:"account"`
	ReturnTo string   `json:"return_to"`
	At       int64    `json:"at"` // seconds since 1970
}

// taken is a step that the user has taken.
type taken struct {
	Need string `json:"need"`
	At   int64  `json:"at"`
}

// since tells whether it was at most that long ago, or as much ahead, by another
// machine's clock. What is further ahead would last for as long as that is wrong.
func since(at int64, limit time.Duration) bool { return time.Since(time.Unix(at, 0)).Abs() < limit }

// prune forgets what is over.
func (st *webState) prune() {
	st.Begun = slices.DeleteFunc(st.Begun, func(b begun) bool {
		s, err := ParseSignIn(b.SignIn)
		return err != nil || !since(s.pending.Started, signInLife)
	})
	st.Steps = slices.DeleteFunc(st.Steps, func(s step) bool { return !since(s.At, stepLife) })
	st.Met = slices.DeleteFunc(st.Met, func(t taken) bool { return !since(t.At, stepPause) })
}

func (st *webState) begin(b *begun) { st.Begun = latest(append(st.Begun, *b), maxBegun) }

// take finds a sign-in by its state, once.
func (st *webState) take(state string) (*begun, SignIn) {
	for i, b := range st.Begun {
		s, err := ParseSignIn(b.SignIn)
		if err == nil && subtle.ConstantTimeCompare([]byte(s.pending.State), []byte(state)) == 1 {
			st.Begun = slices.Delete(st.Begun, i, i+1)
			return &b, s
		}
	}
	return nil, SignIn{}
}

// keep notes a step for a program's user. One that asks for the same is there once, so
// that a program which asks again and again drives out no other.
func (st *webState) keep(s step) (ref string) {
	for _, old := range st.Steps {
		if old.Need == s.Need && old.Account == s.Account && old.ReturnTo == s.ReturnTo {
			return old.Ref
		}
	}
	st.Steps = latest(append(st.Steps, s), maxSteps)
	return s.Ref
}

func (st *webState) step(ref string) (step, bool) {
	i := slices.IndexFunc(st.Steps, func(s step) bool { return s.Ref == ref })
	if i < 0 {
		return step{}, false
	}
	return st.Steps[i], true
}

// met notes that the user has come back from a step.
func (st *webState) met(need string) {
	if need == "" {
		return
	}
	st.Steps = slices.DeleteFunc(st.Steps, func(s step) bool { return s.Need == need })
	st.Met = latest(append(st.Met, taken{need, time.Now().Unix()}), maxSteps)
}

// mayStep tells whether a step would not be one more turn in a circle: it was not taken
// just now, nor were many, which a server might ask for that wants something else each
// time.
func (st *webState) mayStep(need string) bool {
	return len(st.Met) < maxSteps && !slices.ContainsFunc(st.Met, func(t taken) bool { return t.Need == need })
}

func latest[T any](list []T, limit int) []T { return list[max(0, len(list)-limit):] }

// open waits for the session's turn and reads what is kept in it. The turn ends with
// done, which is never nil.
func (w *Web) open(ctx context.Context) (st *webState, done func(), err error) {
	return w.openAs(ctx, w.session.Token(ctx))
}

// openAs is open for a session that was stored under token.
func (w *Web) openAs(ctx context.Context, token string) (*webState, func(), error) {
	done, err := w.turns.enter(ctx, token)
	if err != nil {
		return nil, func() {}, err
	}
	text := w.session.GetString(ctx, w.key)
	if token != "" {
		// The request may have begun before another one has changed the session.
		stored, cancel := context.WithTimeout(context.Background(), sessionTimeout)
		defer cancel()
		fresh, err := w.session.Load(stored, token)
		if err != nil {
			done()
			return nil, func() {}, sessionFailed(err)
		}
		// Within Tickets.SignIn the session may have another token by now. Then ctx
		// has what there is.
		if w.session.Token(ctx) == token {
			text = w.session.GetString(fresh, w.key) //nolint:contextcheck // in ctx is the session as it was
		}
	}
	st := &webState{}
	_ = json.Unmarshal([]byte(text), st) // none at first
	st.prune()
	return st, done, nil
}

func (w *Web) put(ctx context.Context, st *webState) {
	w.session.Put(ctx, w.key, string(plainJSON(st)))
}

func (w *Web) save(ctx context.Context, st *webState) error {
	w.put(ctx, st)
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout) // in a turn that others wait for
	defer cancel()
	if _, _, err := w.session.Commit(ctx); err != nil {
		return sessionFailed(err)
	}
	return nil
}

// change changes the state and answers, or does neither if f returns nil. The answer
// is within the session's turn, because a manager stores the session with it once more.
func (w *Web) change(rw http.ResponseWriter, r *http.Request, f func(*webState) (answer func())) bool {
	answered, err := w.changed(r.Context(), f)
	if err != nil {
		w.fail(rw, r, err)
	}
	return answered || err != nil
}

func (w *Web) changed(ctx context.Context, f func(*webState) (answer func())) (answered bool, err error) {
	st, done, err := w.open(ctx)
	defer done()
	if err != nil {
		return false, err
	}
	answer := f(st)
	if answer == nil {
		return false, nil
	}
	if err := w.save(ctx, st); err != nil {
		return false, err
	}
	answer()
	return true, nil
}

// turns lets the requests of one session go one after the other, and at times one of
// another session with them.
type turns [32]chan struct{}

func newTurns() (t turns) {
	for i := range t {
		t[i] = make(chan struct{}, 1)
	}
	return t
}

func (t *turns) enter(ctx context.Context, token string) (leave func(), err error) {
	if token == "" {
		return func() {}, nil // a session that nobody else can know yet
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(token))
	turn := t[h.Sum32()%uint32(len(t))]
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// sessionError is an error of the session store, whose own text may have addresses in
// it.
type sessionError struct{ err error }

func sessionFailed(err error) error { return &sessionError{err} }

func (e *sessionError) Error() string   { return ErrSession.Error() }
func (e *sessionError) Unwrap() []error { return []error{ErrSession, e.err} }
