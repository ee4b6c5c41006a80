package xoauth2

import (
	"encoding/base64"
	"net/http"
	"strings"
)

// maxChallenges bounds what is read of WWW-Authenticate, in bytes.
const maxChallenges = 16 << 10

// challenge is one challenge of WWW-Authenticate (RFC 9110 §11.6.1).
type challenge struct {
	scheme string            // as sent
	params map[string]string // by name in lower case
}

// refusal tells whether the answer refuses the token in a way that another
// token could mend, and with which claims.
func refusal(h http.Header) (claims string, refused bool) {
	for _, c := range parseChallenges(h.Values("WWW-Authenticate")) {
		if !strings.EqualFold(c.scheme, "Bearer") {
			continue
		}
		if claims, ok := decodeClaims(c.params["claims"]); ok {
			return claims, true
		}
		refused = refused || c.params["error"] == "invalid_token"
	}
	return "", refused
}

// decodeClaims reads the claims of a challenge: JSON, or JSON in base64 of either
// alphabet, as Entra ID's APIs send it.
func decodeClaims(s string) (string, bool) {
	if s == "" || isJSONObject(s) {
		return s, s != ""
	}
	s = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(s)
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || !isJSONObject(string(b)) {
		return "", false
	}
	return string(b), true
}

// parseChallenges reads all challenges of all headers. Of a header that is
// malformed it returns what comes before the mistake.
func parseChallenges(headers []string) []challenge {
	var found []challenge
	left := maxChallenges
	for _, h := range headers {
		if left -= len(h); left < 0 {
			break
		}
		found = append(found, (&scanner{rest: h}).challenges()...)
	}
	return found
}

// scanner reads a header from its front.
type scanner struct{ rest string }

// challenges tells a new challenge from one more parameter by what follows the
// word: commas separate both.
func (s *scanner) challenges() []challenge {
	var found []challenge
	for first := true; ; first = false {
		comma := s.separators()
		word := s.while(isTokenRune)
		if word == "" {
			return found // the end, or a mistake
		}
		s.while(isSpace)
		switch {
		case strings.HasPrefix(s.rest, "="):
			s.rest = s.rest[1:]
			s.while(isSpace)
			value, ok := s.value()
			if !ok || len(found) == 0 {
				return found
			}
			params := found[len(found)-1].params
			if name := strings.ToLower(word); !has(params, name) {
				params[name] = value // §11.2: once only; of two, the first counts
			}
		case comma || first:
			found = append(found, challenge{scheme: word, params: map[string]string{}})
			s.token68()
		default:
			return found
		}
	}
}

func has(m map[string]string, key string) bool {
	_, ok := m[key]
	return ok
}

// separators skips spaces and commas and tells whether there was a comma.
func (s *scanner) separators() bool {
	skipped := s.while(func(r rune) bool { return r == ',' || isSpace(r) })
	return strings.Contains(skipped, ",")
}

// value reads a token or a quoted string (§5.6.4).
func (s *scanner) value() (string, bool) {
	if !strings.HasPrefix(s.rest, `"`) {
		v := s.while(isTokenRune)
		return v, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(s.rest):
			i++
			b.WriteByte(s.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// token68 skips the other form of credentials, as in Negotiate, if it is there:
// it must not be taken for a parameter.
func (s *scanner) token68() {
	ahead := scanner{s.rest}
	word := ahead.while(func(r rune) bool { return r == '/' || isTokenRune(r) })
	ahead.while(func(r rune) bool { return r == '=' })
	ahead.while(isSpace)
	if word != "" && (ahead.rest == "" || ahead.rest[0] == ',') {
		s.rest = ahead.rest
	}
}

// while takes runes from the front as long as f holds.
func (s *scanner) while(f func(rune) bool) string {
	i := strings.IndexFunc(s.rest, func(r rune) bool { return !f(r) })
	if i < 0 {
		i = len(s.rest)
	}
	taken := s.rest[:i]
	s.rest = s.rest[i:]
	return taken
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' }

// isTokenRune is tchar of RFC 9110 §5.6.2.
func isTokenRune(r rune) bool {
	return r > ' ' && r < 0x7f && !strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}
