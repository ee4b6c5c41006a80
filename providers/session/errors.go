package session

import (
	"context"
	"errors"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ErrNoSession means that the context is not that of a request within the session
// manager's LoadAndSave.
var ErrNoSession = errors.New("session: there is no session in the context: " +
	"it must be that of a request within the session manager's LoadAndSave")

var (
	errNotApart = errors.New("session: the sign-in had no reference, and its tokens are those of all browsers of the user: " +
		"begin it with the one that Reference returns")
	errElsewhere = errors.New("session: the sign-in has stored no tokens here: " +
		"its cache has another provider, or it was given another context")
)

// failure is an error of the session store, whose own text may have addresses and
// names in it.
type failure struct {
	text string
	err  error
}

func (f *failure) Error() string { return "session: " + f.text + ": the session store fails" }

// Unwrap returns the store's error, and that it is an outage.
func (f *failure) Unwrap() []error { return []error{tokencache.ErrUnavailable, f.err} }

// mapped is an error of the session store in our words, nil as nil, and the end of
// the caller's context as it is.
func mapped(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return &failure{what, err}
}
