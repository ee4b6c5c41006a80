package tokencache

import (
	"slices"
	"strings"
)

// homeOf finds the directory that an account signed in to: the realm of its
// Account item; of several the one the account is at home in (the second part
// of Microsoft's uid.utid), else the first. Without an Account item it is the
// one realm that all access tokens have, or none if one has none, else the one in
// the account ID.
func homeOf(account string, ofAccounts, ofTokens []string) string {
	_, utid, _ := strings.Cut(account, ".")
	switch {
	case slices.Contains(ofAccounts, utid):
		return utid
	case len(ofAccounts) > 0:
		return ofAccounts[0]
	case len(ofTokens) == 1, slices.Contains(ofTokens, ""):
		return ofTokens[0] // in order: the empty one is the first
	}
	return utid
}

// realms returns the realms that a section has, each once and in order, by
// account in lower case.
func (d *document) realms(s section) map[string][]string {
	all := map[string][]string{}
	for _, it := range d.sections[s] {
		key := strings.ToLower(it.text(fieldHomeAccount))
		all[key] = append(all[key], it.text(fieldRealm))
	}
	for key, realms := range all {
		slices.Sort(realms)
		all[key] = slices.Compact(realms)
	}
	return all
}
