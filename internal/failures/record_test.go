package failures_test

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// kind is what a request needs.
type kind int

const (
	hit     kind = iota // a valid token, of which there is a copy in memory
	read                // a valid token, which is in the store only
	refresh             // a token that ends every few seconds
	forced              // another token than the one before
	signIn
	signOut
	kinds
)

var bounds = [kinds]time.Duration{hitBound, readBound, refreshBound, refreshBound, signInBound, signOutBound}

var kindNames = [kinds]string{"with a valid copy", "that reads the store", "with an expired token", "with a refused token", "sign-in", "sign-out"}

// record is what requests have met.
type record struct {
	mu       sync.Mutex
	phase    phase
	longest  [kinds]time.Duration
	count    [kinds]int
	failed   [kinds]int
	errors   map[string]int // of what the store failed with, by text
	signsOut map[string]int // errors that tell a user to sign in again, and others that nobody should see
}

// phase is what the store does.
type phase int

const (
	before phase = iota
	during
	after
)

func newRecord() *record {
	return &record{errors: map[string]int{}, signsOut: map[string]int{}}
}

func (r *record) enter(p phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase = p
}

// outage tells whether the error says nothing about the user.
func outage(err error) bool {
	return (errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrBusy)) && !errors.Is(err, tokencache.ErrNoTokens)
}

// add takes the outcome of a request. Before the failure it counts only if it
// signs somebody out. After it, copies end because their users get new tokens.
func (r *record) add(k kind, began time.Time, err error) {
	took := time.Since(began)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !outage(err) {
		r.signsOut[err.Error()]++
	}
	if r.phase == before {
		return
	}
	r.longest[k] = max(r.longest[k], took)
	r.count[k]++
	if err == nil || k == hit && r.phase == after {
		return
	}
	r.failed[k]++
	if outage(err) {
		r.errors[cause(err)]++
	}
}

// cause is the end of an error's text, in which the provider says what it met.
func cause(err error) string {
	if errors.Is(err, tokencache.ErrBusy) {
		return "busy"
	}
	text := err.Error()
	for _, by := range []string{": redis: ", ": sql: "} {
		if i := strings.LastIndex(text, by); i >= 0 {
			return strings.SplitN(text[i+len(by):], "\n", 2)[0]
		}
	}
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}

// often is the cause that was met most, but for the one that there was another.
func (r *record) often() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	most, text := 0, "none"
	for cause, n := range r.errors {
		if n > most && !strings.Contains(cause, "is not asked for a moment") {
			most, text = n, cause
		}
	}
	return text
}
