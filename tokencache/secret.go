package tokencache

import (
	"fmt"
	"io"
	"log/slog"
)

// Secret is a token's text. It prints as "[redacted]" whichever way it is
// formatted, marshalled or logged; string(s) is its value. (The exceptions are
// fmt's: it shows the unexported fields of a struct that is printed as a whole,
// and what %p is given that is no pointer.)
type Secret string

const redacted = "[redacted]"

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// Format writes "[redacted]" for every verb, also for those that do not fit a
// string and would print the value.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// MarshalText returns "[redacted]", for encoding/json and the like. The cache
// format does not use it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
