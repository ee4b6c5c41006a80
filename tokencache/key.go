package tokencache

import (
	"errors"
	"time"
)

// Key is the typed name of a partition, as the application knows it. Make one
// with [AccountKey], [AssertionKey], [ApplicationKey] or [SessionKey], or take
// it from a [Ticket]. Keys with an empty part, and the zero Key, are refused
// with an error by every use; they never name a shared partition.
type Key struct {
	id keyID
	// generation, unless zero, is the only sign-in that the key opens.
	generation generation
	// expires, of an assertion, is when the partition ends whatever it holds, in
	// seconds since 1970.
	expires int64
}

// keyID is what makes two keys the same partition. It is comparable, so that
// L1 finds a partition without computing a MAC.
type keyID struct {
	kind    keyKind
	account string // the owner; empty for an application
	tenant  string // empty: absent
	part    string // assertion hash, session or resource
}

type keyKind uint8

// The values are part of the storage name: never renumber them.
const (
	kindAccount     keyKind = 1
	kindAssertion   keyKind = 2
	kindApplication keyKind = 3
	kindSession     keyKind = 4
	kindOnce        keyKind = 5 // no partition: see Cache.Once
	kindSID         keyKind = 6 // no partition: see Cache.SignOutSID
)

// AccountKey is the key of a signed-in user's tokens. The account is the home
// account ID (see [Account.ID]), compared byte for byte.
func AccountKey(account string) Key {
	return Key{id: keyID{kind: kindAccount, account: account}}
}

// AssertionKey is the key of the tokens that a web API obtained on behalf of
// the bearer of one verified token. It is owned by the account that the token
// names, and ends with the token.
func AssertionKey(a Assertion) Key {
	return Key{
		id:      keyID{kind: kindAssertion, account: a.claims.Account, tenant: a.claims.Tenant, part: a.hash},
		expires: a.claims.Expires.Unix(),
	}
}

// ApplicationKey is the key of the application's own tokens (client
// credentials) for one resource, so that no partition grows with the number of
// resources. The resource is a resource indicator or the scopes that stand for
// one. An empty tenant is absent, which is another partition than any tenant's.
func ApplicationKey(tenant, resource string) Key {
	return Key{id: keyID{kind: kindApplication, tenant: tenant, part: resource}}
}

// SessionKey is the key of a long-running process that acts for an account
// after its caller has gone. The session is a name of the application's own.
func SessionKey(account, session string) Key {
	return Key{id: keyID{kind: kindSession, account: account, part: session}}
}

// String tells the kind of the key and nothing about the account.
func (k Key) String() string {
	switch k.id.kind {
	case kindAccount:
		return "account key"
	case kindAssertion:
		return "assertion key"
	case kindApplication:
		return "application key"
	case kindSession:
		return "session key"
	}
	return "zero key"
}

// Account returns the account that owns the partition, empty for an
// application's. It is personal data.
func (k Key) Account() string { return k.id.account }

// application tells whether the application itself is the owner.
func (k Key) application() bool { return k.id.kind == kindApplication }

// ends is when an assertion's partition ends.
func (k Key) ends() time.Time { return time.Unix(k.expires, 0) }

// selfRenewing tells whether tokens are obtained without a stored refresh
// token: with the application's own credentials, or with the incoming token.
func (k Key) selfRenewing() bool {
	return k.id.kind == kindApplication || k.id.kind == kindAssertion
}

var (
	errZeroKey   = errors.New("tokencache: the key is the zero Key: use AccountKey, AssertionKey, ApplicationKey or SessionKey")
	errEmptyPart = errors.New("tokencache: the key has an empty part: an account, assertion, resource or session is missing")
)

func (k keyID) check() error {
	owned := k.account != ""
	switch k.kind {
	case kindAccount:
		if !owned {
			return errEmptyPart
		}
	case kindAssertion, kindSession:
		if !owned || k.part == "" {
			return errEmptyPart
		}
	case kindApplication, kindOnce, kindSID:
		if k.part == "" {
			return errEmptyPart
		}
	default:
		return errZeroKey
	}
	return nil
}
