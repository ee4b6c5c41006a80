package sql

import "errors"

// failure is an error of the driver in words that say what to do. The driver's own
// text is in none of what it wraps, since that may have addresses, user names and
// values in it.
type failure struct {
	text string
	err  error // the end of a context, or an error code; nil is neither
	// undone tells that nothing was carried out.
	undone bool
}

func (f *failure) Error() string { return "sql: " + f.text }

// Unwrap returns the end of the context, or an error code.
func (f *failure) Unwrap() error { return f.err }

// unsure tells whether what failed may have been carried out all the same.
func unsure(err error) bool {
	var f *failure
	return !errors.As(err, &f) || !f.undone
}

// inDoubt is the error of a call that was to undo another one, as the answer to
// that one: which has been carried out.
func inDoubt(err error) error {
	var f *failure
	if errors.As(err, &f) && f.undone {
		return &failure{text: f.text, err: f.err}
	}
	return err
}
