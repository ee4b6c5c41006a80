package tokencache

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// generation tells one sign-in of an account from a later one. It is drawn
// when somebody signs in to an absent or removed partition and kept by every
// save after that.
type generation [16]byte

func newGeneration() generation {
	var g generation
	_, _ = rand.Read(g[:]) // never fails (crypto/rand, Go 1.24)
	return g
}

// Ticket is what a web session keeps of a sign-in: the account, the session if its
// tokens are kept apart ([Cache.SignInSession]), and the generation of the
// partition. It holds no token. A ticket from before a
// sign-out opens nothing afterwards, even when the same user has signed in
// again, so that an old cookie stays signed out.
//
// Store [Ticket.Encode] in a server-side session, or in a cookie that is
// encrypted and authenticated: the account ID is personal data.
type Ticket struct {
	account    string
	session    string // empty: the account's own partition
	generation generation
}

// Account returns the home account ID.
func (t Ticket) Account() string { return t.account }

// Key is the key of the account's partition, or of the session's, opening it only
// while the sign-in that the ticket was issued for lasts.
func (t Ticket) Key() Key {
	k := AccountKey(t.account)
	if t.session != "" {
		k = SessionKey(t.account, t.session)
	}
	k.generation = t.generation
	return k
}

// Ticket returns the ticket of the sign-in that the partition holds now, as [Cache.SignIn]
// has returned it: for a program on somebody's machine, which finds its user again by the
// account alone. In a web app that is what a session's ticket is there to prevent.
//
// Errors are those of [Partition.Check], with [ErrNoTokens] also for what another library
// has written where hooks are the store; and one that is [errors.ErrUnsupported] for a
// partition that nobody signs in to.
func (p *Partition) Ticket(ctx context.Context) (Ticket, error) {
	if kind := p.key.id.kind; kind != kindAccount && kind != kindSession {
		return Ticket{}, errNobodys
	}
	s, err := p.snapshot(ctx)
	switch {
	case err != nil:
		return Ticket{}, err
	case !s.usable(p.cache.ns.ClientID, p.key.id.account, time.Now()):
		return Ticket{}, ErrNoTokens
	case s.generation == generation{}:
		return Ticket{}, errNoSignIn // it would open every sign-in
	}
	return Ticket{account: p.key.id.account, session: p.key.id.part, generation: s.generation}, nil
}

var (
	errNobodys  = fmt.Errorf("tokencache: nobody signs in to an application's tokens, or on behalf of a bearer: %w", errors.ErrUnsupported)
	errNoSignIn = fmt.Errorf("%w: these tokens are not from a sign-in", ErrNoTokens)
)

const ticketPrefix = "1."

var errTicket = errors.New("tokencache: not a ticket")

// Encode returns the ticket as text: "1.", the generation, "." and the account, and
// with a session "." and the session, all three in unpadded base64url.
func (t Ticket) Encode() string {
	enc := base64.RawURLEncoding
	text := ticketPrefix + enc.EncodeToString(t.generation[:]) + "." + enc.EncodeToString([]byte(t.account))
	if t.session != "" {
		text += "." + enc.EncodeToString([]byte(t.session))
	}
	return text
}

// maxTicket is the longest text that may be a ticket, in bytes.
const maxTicket = 2048

// ParseTicket reads what Encode wrote, and only that.
func ParseTicket(text string) (Ticket, error) {
	rest, ok := strings.CutPrefix(text, ticketPrefix)
	gen, account, cut := strings.Cut(rest, ".")
	account, session, apart := strings.Cut(account, ".")
	if !ok || !cut || len(text) > maxTicket || strings.ContainsAny(text, "\r\n") { // which base64 skips
		return Ticket{}, errTicket
	}
	// This happens in every request: the buffers are on the stack.
	var g, a, s [maxTicket]byte
	enc := base64.RawURLEncoding.Strict()
	n, err1 := enc.Decode(g[:], []byte(gen))
	m, err2 := enc.Decode(a[:], []byte(account))
	l, err3 := enc.Decode(s[:], []byte(session))
	if err1 != nil || err2 != nil || err3 != nil || n != len(generation{}) || m == 0 || apart != (l > 0) {
		return Ticket{}, errTicket
	}
	t := Ticket{account: string(a[:m]), session: string(s[:l]), generation: generation(g[:n])}
	if t.generation == (generation{}) {
		return Ticket{}, errTicket // it would open every sign-in
	}
	return t, nil
}

// String returns "ticket", so that logs show no account.
func (t Ticket) String() string { return "ticket" }

// LogValue returns "ticket".
func (t Ticket) LogValue() slog.Value { return slog.StringValue("ticket") }
