package tokencache

import (
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
		b = appendPart(b, it.text(fieldClient))
		b = appendPart(b, it.text(fieldRealm))
		b = appendPart(b, strings.Join(scopeSet(it), " "))
		b = appendPart(b, tokenType(it))
		b = it.qualifiers().append(b)
		b = appendPart(b, assertionHash(it))
	case refreshTokens:
		family, client := it.text(fieldFamily), it.text(fieldClient)
		if family != "" {
			client = "" // whichever client of the family got it
		}
		b = appendPart(b, family)
		b = appendPart(b, client)
		b = it.qualifiers().append(b)
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
