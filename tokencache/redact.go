package tokencache

import (
	"fmt"
	"io"
	"log/slog"
)

// These hold keys, accounts or tokens in unexported fields, which fmt would show
// for %v and, where there is a String method, still for %d. (The verbs %T and %p
// never come here; %p of a value shows it.)

// Format writes String for every verb.
func (k Key) Format(f fmt.State, _ rune) { write(f, k.String()) }

// Format writes "ticket" for every verb.
func (t Ticket) Format(f fmt.State, _ rune) { write(f, t.String()) }

// Format writes "assertion" for every verb.
func (a Assertion) Format(f fmt.State, _ rune) { write(f, "assertion") }

// Format writes "keys" for every verb.
func (k Keys) Format(f fmt.State, _ rune) { write(f, "keys") }

// MarshalText returns "keys", for encoding/json and the like.
func (k Keys) MarshalText() ([]byte, error) { return []byte("keys"), nil }

// LogValue returns "keys".
func (k Keys) LogValue() slog.Value { return slog.StringValue("keys") }

// Format writes "key ring" for every verb.
func (r KeyRing) Format(f fmt.State, _ rune) { write(f, "key ring") }

// Format writes "cache" for every verb.
func (c *Cache) Format(f fmt.State, _ rune) { write(f, "cache") }

// Format writes "partition" for every verb.
func (p *Partition) Format(f fmt.State, _ rune) { write(f, "partition") }

func write(w io.Writer, text string) { _, _ = io.WriteString(w, text) }
