package tokencache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// Tokens are the decoded contents of a partition: tokens, and what is known of
// the account and the client. They are written in the unified schema of
// Microsoft's authentication libraries, which MSAL for .NET, Go, Java, Node and
// Python read; what this library does not know of it is kept. The zero value is
// empty. Reading from several goroutines at once is safe, changing is not.
//
// MarshalJSON and Serialize write the tokens themselves: what they return is for
// encrypted storage, not for logs. All other methods show no token.
type Tokens struct {
	// At most one is set, and neither is changed afterwards.
	snap *snapshot // not decoded yet
	doc  *document
	read time.Time // when snap was stored for certain, zero: not known; see Merge
}

// tokensOf returns the contents of a snapshot. It costs nothing until they are
// looked at.
func tokensOf(s *snapshot) *Tokens { return &Tokens{snap: s} }

// view returns the contents, for reading only. Nil is empty.
func (t *Tokens) view() (*document, error) {
	switch {
	case t == nil:
	case t.snap != nil:
		return t.snap.document()
	case t.doc != nil:
		return t.doc, nil
	}
	return &document{}, nil
}

// MarshalJSON returns the tokens in the unified schema. Equal contents give
// equal bytes. The error is [ErrTooLarge], for more than [MaxTokensSize] bytes.
func (t *Tokens) MarshalJSON() ([]byte, error) {
	d, err := t.view()
	if err != nil {
		return nil, err
	}
	b, _ := d.encode()
	if len(b) > MaxTokensSize {
		return nil, ErrTooLarge // nobody could read it back
	}
	return b, nil
}

// UnmarshalJSON replaces the contents with a document in the unified schema, as
// any of Microsoft's libraries writes it; null changes nothing. Where it has
// several entries for one token, the newest is kept. After an error, which says
// nothing of the input, the contents are as before. The error is [ErrTooLarge]
// for more than [MaxTokensSize] bytes, or else [ErrUnreadable].
func (t *Tokens) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil // as encoding/json asks for
	}
	return t.parse(bytes.Clone(b))
}

// parse keeps b.
func (t *Tokens) parse(b []byte) error {
	d, err := parseDocument(b)
	switch {
	case errors.Is(err, ErrTooLarge):
		return err
	case err != nil:
		return &malformedError{err: err}
	}
	t.snap, t.doc = nil, d
	return nil
}

// Serialize writes the bytes of MarshalJSON.
func (t *Tokens) Serialize(w io.Writer) error {
	b, err := t.MarshalJSON()
	if err != nil {
		return err
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("tokencache: write the tokens: %w", err)
	}
	return nil
}

// Deserialize reads up to the end of the stream and does as UnmarshalJSON does.
// Nothing in the stream means no tokens. It reads no more than a byte beyond
// [MaxTokensSize].
func (t *Tokens) Deserialize(r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxTokensSize+1))
	if err != nil {
		return fmt.Errorf("tokencache: read the tokens: %w", err)
	}
	return t.parse(b)
}

// Accounts returns the accounts that the partition knows: one for each directory
// the user signed in to. They are personal data.
func (t *Tokens) Accounts() []Account {
	d, err := t.view()
	if err != nil {
		return nil
	}
	var list []Account
	for _, k := range d.keyed(accounts) {
		list = append(list, Account{
			ID:       k.item.text(fieldHomeAccount),
			LocalID:  k.item.text(fieldLocalAccount),
			Tenant:   k.item.text(fieldRealm),
			Username: k.item.text(fieldUsername),
			Name:     k.item.text(fieldName),
		})
	}
	return list
}

// String tells how many tokens there are, and nothing of them.
func (t Tokens) String() string {
	d, err := t.view()
	if err != nil {
		return "tokens that do not decode"
	}
	return fmt.Sprintf("%d access, %d refresh and %d ID tokens",
		len(d.sections[accessTokens]), len(d.sections[refreshTokens]), len(d.sections[idTokens]))
}

// GoString is String.
func (t Tokens) GoString() string { return t.String() }

// Format writes String for every verb.
func (t Tokens) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.String()) }

// LogValue is String, for log/slog.
func (t Tokens) LogValue() slog.Value { return slog.StringValue(t.String()) }
