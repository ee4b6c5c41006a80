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
	cae      bool   // see Request.CAE
	foreign  string // what another library added, as it came: not for us to serve
}

const (
	extResource = "resource"
	extClaims   = "claims"
	extCAE      = "cae" // always with the value caeOn
	caeOn       = "1"
)

func (q qualifiers) append(b []byte) []byte {
	b = appendPart(appendPart(appendPart(b, q.resource), q.claims), q.foreign)
	if q.cae {
		b = appendPart(b, extCAE)
	}
	return b
}

// qualifiers reads them from ext, where MSAL.NET keeps such parameters, and from
// MSAL Node's own fields.
func (it *item) qualifiers() qualifiers {
	var q qualifiers
	if ext := it.raw(fieldExt); ext != nil {
		pairs, ok := extPairs(ext)
		for _, p := range pairs {
			switch {
			case p.name == extResource:
				q.resource = p.value
			case p.name == extClaims:
				q.claims = p.value
			case p.name == extCAE && p.value == caeOn:
				q.cae = true
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

// newExt returns the ext of an access token that was obtained with a resource,
// claims or the capability, nil without any. A version of this library that does
// not know one of them leaves the token alone. Of Microsoft's libraries MSAL.NET
// finds by ext; MSAL Go does not look at it, and must not get to see the token.
func newExt(req *Request) []byte {
	var pairs []extPair // in the order of their names
	if req.CAE {
		pairs = append(pairs, extPair{extCAE, caeOn})
	}
	if req.Claims != "" {
		pairs = append(pairs, extPair{extClaims, claimsHash(req.Claims)})
	}
	if req.Resource != "" {
		pairs = append(pairs, extPair{extResource, strings.ToValidUTF8(req.Resource, "\uFFFD")})
	}
	if len(pairs) == 0 {
		return nil
	}
	var b []byte
	for i, p := range pairs {
		b = append(b, "{,"[min(i, 1)])
		b = append(appendQuoted(b, p.name), ':')
		b = appendQuoted(b, p.value)
	}
	return append(b, '}')
}
