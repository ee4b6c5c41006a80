package tokencache

import "errors"

// The reasons why a record does not open, for events and metrics: constants, so
// that nothing of a record or of a foreign error gets into them.
const (
	reasonFormat     = "format"                         // not a record, or one of a later release
	reasonPlaintext  = "plaintext where keys are set"   // planted, or from before there were keys
	reasonSealed     = "sealed where there are no keys" // the keys are missing here
	reasonUnknownKey = "unknown key"                    // lost, or not yet given to this machine
	reasonRevokedKey = "revoked key"
	reasonAltered    = "altered or moved" // or an older record under a newer version
	reasonTooLarge   = "too large"        // larger than anything that is saved
	reasonMalformed  = "malformed"        // what was sealed is no partition
	reasonForeign    = "does not open"    // says an AEAD that is no KeyRing
)

// unreadableError is [ErrUnreadable] with its reason.
type unreadableError struct {
	reason string // one of the constants above
	// key is the ID of the key that the record names, if that is the reason:
	// 8 hexadecimal digits, chosen by whoever wrote the record.
	key string
}

// Error names the reason and the key.
func (e *unreadableError) Error() string {
	text := ErrUnreadable.Error() + ": " + e.reason
	if e.key != "" {
		text += " " + e.key
	}
	return text
}

// Unwrap returns ErrUnreadable.
func (e *unreadableError) Unwrap() error { return ErrUnreadable }

// whyUnreadable turns the error of an AEAD into an unreadableError. That of a
// foreign one is not repeated: nobody knows what it says.
func whyUnreadable(err error) error {
	var ring *ringError
	if errors.As(err, &ring) {
		return &unreadableError{reason: ring.reason, key: ring.key}
	}
	return &unreadableError{reason: reasonForeign}
}

// malformedError says what is wrong with a document that does not decode. It is
// [ErrUnreadable].
type malformedError struct{ err error }

func (e *malformedError) Error() string   { return e.err.Error() }
func (e *malformedError) Unwrap() []error { return []error{e.err, ErrUnreadable} }
