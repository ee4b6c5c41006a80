package tokencache

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"strings"
)

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

func (q qualifiers) append(b []byte) []byte {
	return appendPart(appendPart(appendPart(b, q.resource), q.claims), q.foreign)
}

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
