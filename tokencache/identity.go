package tokencache

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
)

// identity is what makes two items the same logical entry, whatever library
// wrote them under whatever key. Accounts and environments are compared without
// case, as MSAL does; client IDs and realms are not, because on servers other
// than Microsoft's they may differ by case alone.
func identity(s section, it *item) string {
	b := appendPart(nil, strings.ToLower(it.text(fieldHomeAccount)))
	b = appendPart(b, strings.ToLower(it.text(fieldEnvironment)))
	switch s {
	case accessTokens:
		q := it.qualifiers()
		b = appendPart(b, it.text(fieldClient))
		b = appendPart(b, it.text(fieldRealm))
		b = appendPart(b, strings.Join(scopeSet(it), " "))
		b = appendPart(b, tokenType(it))
		b = appendPart(b, q.resource)
		b = appendPart(b, q.claims)
		b = appendPart(b, q.foreign)
		b = appendPart(b, assertionHash(it))
	case refreshTokens:
		b = appendOptional(b, it.text(fieldFamily))
		if it.text(fieldFamily) == "" {
			b = appendPart(b, it.text(fieldClient))
		}
		b = appendPart(b, string(it.raw(fieldExt)))
		b = appendPart(b, assertionHash(it))
	case idTokens:
		b = appendPart(b, it.text(fieldClient))
		b = appendPart(b, it.text(fieldRealm))
	case accounts:
		b = appendPart(b, it.text(fieldRealm))
	case appMetadata:
		b = appendPart(b, it.text(fieldClient))
	}
	return string(b)
}

// supersedes tells whether a, which comes later in the document, replaces b of
// the same identity: the newer one stays, a dated one before one without a
// date, and among those the one under its canonical key, which is the one this
// library or MSAL.NET wrote last.
func supersedes(s section, a, b *item) bool {
	if x, y := modified(a), modified(b); x != y {
		return x > y
	}
	return a.key == canonicalKey(s, a) || b.key != canonicalKey(s, b)
}

// modified is when the item was written, as far as it says so.
func modified(it *item) int64 {
	if t := it.unix(fieldModified); t != 0 {
		return t
	}
	return it.unix(fieldCachedAt)
}

// canonicalKey is the key MSAL.NET gives the item (Cache/Items/*.cs there): its
// parts joined by dashes, all in lower case but an account's.
func canonicalKey(s section, it *item) string {
	account, env, client := it.text(fieldHomeAccount), it.text(fieldEnvironment), it.text(fieldClient)
	var parts []string
	switch s {
	case accessTokens:
		parts = accessTokenKey(it)
	case refreshTokens:
		if family := it.text(fieldFamily); family != "" {
			client = family
		}
		parts = []string{account, env, "refreshtoken", client, "", ""}
		if hash := extHash(it.raw(fieldExt)); hash != "" {
			parts = append(parts, hash)
		}
	case idTokens:
		parts = []string{account, env, "idtoken", client, it.text(fieldRealm), ""}
	case accounts:
		return strings.Join([]string{account, env, it.text(fieldRealm)}, "-")
	case appMetadata:
		parts = []string{"appmetadata", env, client}
	}
	return strings.ToLower(strings.Join(parts, "-"))
}

func accessTokenKey(it *item) []string {
	kind, tail := "accesstoken", []string(nil)
	if t := tokenType(it); t != bearer {
		kind, tail = "accesstoken_with_authscheme", append(tail, t)
	}
	if hash := extHash(it.raw(fieldExt)); hash != "" {
		kind, tail = "atext", append(tail, hash)
	}
	parts := []string{
		it.text(fieldHomeAccount), it.text(fieldEnvironment), kind, it.text(fieldClient), it.text(fieldRealm),
		strings.Join(scopeSet(it), " "),
	}
	return append(parts, tail...)
}

const bearer = "bearer"

// tokenType is the token type in lower case; absent means bearer.
func tokenType(it *item) string {
	if t := it.text(fieldTokenType); t != "" {
		return strings.ToLower(t)
	}
	return bearer
}

// scopeSet returns the scopes in lower case, each once, in order.
func scopeSet(it *item) []string {
	scopes := strings.Fields(strings.ToLower(it.text(fieldTarget)))
	slices.Sort(scopes)
	return slices.Compact(scopes)
}

// assertionHash names the incoming token of an on-behalf-of token. MSAL Go pads
// the base64 text, the others do not; MSAL Node has its own name for the field.
func assertionHash(it *item) string {
	hash := it.text(fieldAssertion)
	if hash == "" {
		hash = it.text(nodeAssertion)
	}
	return strings.TrimRight(hash, "=")
}

// qualifiers are the parameters, beside scopes, that an access token was
// obtained with.
type qualifiers struct {
	resource string
	claims   string // see claimsHash
	foreign  string // what another library added, as it came: not for us to serve
}

const (
	extResource = "resource"
	extClaims   = "claims"
)

// qualifiers reads them from ext, where MSAL.NET keeps such parameters, and from
// MSAL Node's own fields.
func (it *item) qualifiers() qualifiers {
	var q qualifiers
	if ext := it.raw(fieldExt); ext != nil {
		pairs, ok := extPairs(ext)
		for _, p := range pairs {
			switch p.name {
			case extResource:
				q.resource = p.value
			case extClaims:
				q.claims = p.value
			default:
				ok = false
			}
		}
		if !ok {
			q.foreign = string(ext)
		}
	}
	if q.claims == "" {
		q.claims = it.text(nodeClaimsHash)
	}
	if q.claims == "" {
		q.claims = claimsHash(it.text(nodeClaims))
	}
	q.foreign += it.text(goExtKey)
	return q
}

// claimsHash is the unpadded base64url SHA-256 of a claims request, as MSAL
// Node names one; empty for none.
func claimsHash(claims string) string {
	if claims == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(claims))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type extPair struct{ name, value string }

// extPairs returns the pairs of ext in the order of their names, and false if
// it is not an object of strings without duplicates.
func extPairs(ext []byte) ([]extPair, bool) {
	if !isObject(ext) {
		return nil, false
	}
	var pairs []extPair
	plain := true
	for quoted, v := range members(ext) {
		name, _ := unquote(quoted)
		value, ok := unquote(v)
		plain = plain && ok
		pairs = append(pairs, extPair{name: name, value: value})
	}
	slices.SortStableFunc(pairs, func(a, b extPair) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(pairs); i++ {
		plain = plain && pairs[i].name != pairs[i-1].name
	}
	return pairs, plain
}

// extHash is what MSAL.NET appends to the key for ext: the unpadded base64url
// SHA-256 of its names and values in order (Utils/CoreHelpers.cs there). Empty
// without ext.
func extHash(ext []byte) string {
	pairs, _ := extPairs(ext)
	if len(pairs) == 0 {
		return ""
	}
	h := sha256.New()
	for _, p := range pairs {
		h.Write([]byte(p.name))
		h.Write([]byte(p.value))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// newExt returns the ext of an access token that was asked for with a
// resource or claims, nil without either.
func newExt(resource, claims string) []byte {
	if resource == "" && claims == "" {
		return nil
	}
	b := []byte{'{'}
	if claims != "" {
		b = append(appendQuoted(b, extClaims), ':')
		b = appendQuoted(b, claimsHash(claims))
	}
	if resource != "" {
		if claims != "" {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, extResource), ':')
		b = appendQuoted(b, strings.ToValidUTF8(resource, "\uFFFD"))
	}
	return append(b, '}')
}
