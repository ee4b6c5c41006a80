package azcredential

import (
	"context"
	"errors"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// finalError keeps the SDK's retry policy from trying again for up to minutes: it has
// the method of errorinfo.NonRetriable, by which the SDK knows such errors.
type finalError struct{ err error }

func (e *finalError) Error() string { return e.err.Error() }
func (e *finalError) Unwrap() error { return e.err }

// NonRetriable marks the error.
func (*finalError) NonRetriable() {}

// sorted marks an error that time does not mend.
func sorted(err error) error {
	var interaction *tokencache.InteractionRequiredError
	if errors.Is(err, tokencache.ErrNoTokens) || errors.As(err, &interaction) {
		return &finalError{err} // whatever else it is
	}
	var down *tokencache.ServerError
	if errors.As(err, &down) {
		return err
	}
	for _, passing := range []error{
		tokencache.ErrUnavailable, tokencache.ErrBusy, context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, passing) {
			return err
		}
	}
	return &finalError{err}
}
