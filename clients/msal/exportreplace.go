package msal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/cache"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// ExportReplace is the cache of one MSAL client ([cache.ExportReplace]): for
// applications that make their own, and call AcquireTokenSilent and its like
// themselves. It keeps the tokens in one partition, whatever key MSAL suggests: the one
// that it is bound to, or that of the context. Make both for each call, or for each
// request, as the example does.
//
// A new MSAL client costs some 3 µs, and a GET of instance discovery that an HTTP client
// with a cache, or WithInstanceDiscovery(false), saves. One that several users share
// looks as if it worked: but MSAL reads its memory after it has let go of the lock under
// which it was filled, and with a thousand users and sixteen requests at once, up to 98 %
// of the calls for tokens that are stored and valid fail with "no token found". Here the
// second user gets an error at once, every time.
//
// # How far it is safe
//
// What MSAL has changed is stored entry by entry ([tokencache.Partition.Merge]), so that
// requests on several machines do not overwrite each other's tokens. What MSAL has
// received is not lost when the request is cancelled, or the store fails, while it is
// stored: it is kept in this process, stored later, and the call succeeds
// ([tokencache.EventUnsaved]). A user who has signed out meanwhile is not signed in again:
// the call fails with [tokencache.ErrRemoved].
//
// What it cannot do, because MSAL Go calls it only before and after:
//
//   - There is no single flight, no lease, and no second look before the refresh token is
//     spent: sixteen calls that find an expired token make sixteen refreshes. Servers that
//     rotate refresh tokens and take reuse for theft then sign the user out. Microsoft
//     Entra ID does not. The client of this package is safe with both.
//   - If the context ends while MSAL waits for the token endpoint, the answer is lost,
//     and a rotated refresh token with it: hence the WithoutCancel of the example; bound the call
//     by the HTTP client's timeout, which MSAL's own lacks.
//   - An answer with fewer scopes than asked for is dropped by MSAL, with its refresh
//     token, before anybody sees it.
//   - RemoveAccount, and Accounts of a public client, fail, as MSAL does not say whose
//     tokens they mean: use [tokencache.Partition.SignOut].
//   - It does not say which tokens it obtained with client capabilities: they count as
//     ordinary ones, so give all MSAL clients that work with a partition the same. Those
//     that were obtained with [tokencache.Request].CAE or Resource, MSAL does not get
//     to see.
//   - Tokens obtained on behalf of an incoming token are neither stored nor read: MSAL
//     exports others in their place, and cannot read them back. Each call asks the
//     authorization server.
//
// A sign-in needs [Exchange] instead: only that may begin a partition, or follow a
// sign-out. The application's own tokens (AcquireTokenByCredential) need a partition of
// their own, with an [tokencache.ApplicationKey].
//
// It is safe for concurrent use, as far as the MSAL client is.
type ExportReplace struct {
	bound  *tokencache.Partition // or nil
	cache  *tokencache.Cache     // where the partition is the context's
	memory memory
}

// NewExportReplace returns an ExportReplace for a user's partition, or for one of the
// application's own.
func NewExportReplace(p *tokencache.Partition) *ExportReplace {
	return &ExportReplace{bound: p}
}

// NewContextExportReplace returns an ExportReplace for the partition that the context of
// each call of MSAL carries ([tokencache.NewContext], which the middleware calls): for
// code that makes MSAL clients where it has nothing else at hand. A context without
// one gets [tokencache.ErrNoTokens]. It makes no MSAL client one that users can share:
// MSAL reads what another call may have put in place of this one's tokens.
func NewContextExportReplace(cache *tokencache.Cache) *ExportReplace {
	return &ExportReplace{cache: cache}
}

// partition is the one that a call works with.
func (x *ExportReplace) partition(ctx context.Context) (*tokencache.Partition, error) {
	if x.bound != nil {
		return x.bound, nil
	}
	if p, ok := x.cache.FromContext(ctx); ok {
		return p, nil
	}
	return nil, errNobody
}

var _ cache.ExportReplace = (*ExportReplace)(nil)

var (
	errNoKey = errors.New("msal: MSAL does not say whose tokens it means (RemoveAccount, Accounts): " +
		"sign out with Partition.SignOut, and sign in with Exchange")
	errNobody   = fmt.Errorf("%w: nobody is signed in to the context of the MSAL call", tokencache.ErrNoTokens)
	errOtherKey = errors.New("msal: the MSAL client works with the partition of another account: " +
		"make an MSAL client and an ExportReplace for each user")
)

// Replace fills the MSAL client with the tokens of the partition. It does not look at
// whether ctx has ended, because MSAL would then lose what it has received; the options
// of the cache bound how long it takes.
//
// Errors, which MSAL's methods return as they are: those of
// [tokencache.Partition.Token], such as [tokencache.ErrNoTokens] and
// [tokencache.ErrUnavailable], and one if MSAL means another partition.
func (x *ExportReplace) Replace(ctx context.Context, client cache.Unmarshaler, hints cache.ReplaceHints) error {
	p, err := x.partition(ctx)
	if err != nil {
		return errors.Join(err, client.Unmarshal(nil))
	}
	switch kindOf(hints.PartitionKey, p.Key().Account()) {
	case onBehalf:
		return client.Unmarshal(nil)
	case otherKey:
		return errOtherKey
	case noKey:
		return errNoKey
	}
	given, err := x.load(ctx, p, client)
	if err != nil {
		return errors.Join(err, client.Unmarshal(nil))
	}
	x.memory.put(client, given)
	return client.Unmarshal(given.text)
}

// load returns what the client is to work with. By the second Replace of a call, MSAL
// holds new tokens, and an error would lose them: what it was given at the first, a
// moment ago, is then good enough, because Export makes the change to what is stored.
//
// It reads past the copies of this process: another machine may have spent the refresh
// token in one.
func (x *ExportReplace) load(ctx context.Context, p *tokencache.Partition, client cache.Unmarshaler) (*given, error) {
	before := x.memory.get(client, p.Key())
	tokens, err := p.Reload(context.WithoutCancel(ctx))
	switch {
	case err == nil:
		return newGiven(p.Key(), tokens)
	case errors.Is(err, tokencache.ErrNoTokens) && before != nil:
		// Export finds out why: a partition that was evicted is made again, and one
		// that was removed is not.
		return &given{key: p.Key(), tokens: before.tokens, at: before.at}, nil
	case errors.Is(err, tokencache.ErrUnavailable) && before != nil:
		return before, nil
	case p.Key().Account() == "" && isNone(err):
		return &given{key: p.Key(), tokens: &tokencache.Tokens{}, at: time.Now()}, nil // the application can always ask for another
	}
	return nil, err
}

// isNone tells whether there are no tokens, for any other reason than that they were
// removed.
func isNone(err error) bool {
	return errors.Is(err, tokencache.ErrUnavailable) || errors.Is(err, tokencache.ErrNoTokens) && !errors.Is(err, tokencache.ErrRemoved)
}

// Export stores what MSAL has changed since Replace. By now MSAL has received tokens,
// and would drop them if this failed: so it fails only if they must not be used, because
// the user has signed out ([tokencache.ErrNoTokens] and its like). It goes on when
// ctx ends.
//
// While the provider does not answer, the change is kept and stored later; until the
// process ends, as with a refresh of the cache's own. What cannot be stored at all,
// because a hook refuses it or it is too large, is handed out and not stored: the cache's
// events tell.
func (x *ExportReplace) Export(ctx context.Context, client cache.Marshaler, hints cache.ExportHints) error {
	p, err := x.partition(ctx)
	if err != nil {
		return err
	}
	switch kindOf(hints.PartitionKey, p.Key().Account()) {
	case onBehalf:
		return nil
	case otherKey:
		return errOtherKey
	case noKey:
		return errNoKey
	}
	text, err := client.Marshal()
	if err != nil {
		return err
	}
	before := x.memory.get(client, p.Key())
	if before == nil { // MSAL has not asked before: a refresh token is stored if there is none
		before = &given{tokens: &tokencache.Tokens{}}
	}
	after, err := before.changed(text)
	if err != nil {
		return nil //nolint:nilerr // more than a cache holds, or not what MSAL writes: the caller still gets the token
	}
	err = p.Merge(ctx, before.tokens, after)
	if errors.Is(err, tokencache.ErrNoTokens) || errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// keyKind is what MSAL means by a partition key.
type keyKind int

const (
	ownKey   keyKind = iota // the partition's
	noKey                   // nothing
	onBehalf                // an incoming token, by its hash
	otherKey                // another account, or the application
)

// kindOf compares a key with the account of the partition, which is empty if that is
// the application's own. There the key is a name for the client and the tenant, and says
// nothing of the resource, which makes the partition.
func kindOf(key, account string) keyKind {
	switch {
	case key == "":
		return noKey
	case key == account, account == "" && strings.HasSuffix(key, "_AppTokenCache"):
		return ownKey
	case isAssertionHash(key):
		return onBehalf
	}
	return otherKey
}

// isAssertionHash knows the padded base64url of a SHA-256.
func isAssertionHash(key string) bool {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return len(key) == 44 && key[43] == '=' && strings.Trim(key[:43], alphabet) == ""
}
