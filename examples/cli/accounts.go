package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

// account is who is signed in, as JSON.
type account struct {
	Username string `json:"username"`
	Name     string `json:"name,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	ID       string `json:"id"`
}

func described(a tokencache.Account) account {
	return account{Username: a.Username, Name: a.Name, Tenant: a.Tenant, ID: a.ID}
}

// label is what to call an account: its user name, or else its ID.
func label(a tokencache.Account) string {
	if a.Username == "" {
		return printable(a.ID)
	}
	return printable(a.Username)
}

// printable makes a name that a server chose safe for a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

type accountsCmd struct{}

// Run lists who is signed in.
func (*accountsCmd) Run(ctx context.Context, p *program) error {
	return p.with(ctx, func(s *session) error {
		accounts, err := s.cache.Accounts(ctx)
		if err != nil {
			return err
		}
		if p.JSON {
			list := make([]account, len(accounts))
			for i, a := range accounts {
				list[i] = described(a)
			}
			return p.printJSON(struct {
				Issuer   string    `json:"issuer"`
				ClientID string    `json:"client_id"`
				Accounts []account `json:"accounts"`
			}{s.cache.Namespace().Issuer, s.cache.Namespace().ClientID, list})
		}
		if len(accounts) == 0 {
			p.ui.say("Nobody is signed in at %s.", s.cache.Namespace().Issuer)
		}
		for _, a := range accounts {
			text := label(a)
			if a.Name != "" && a.Name != a.Username {
				text += " (" + printable(a.Name) + ")"
			}
			if err := p.print("%s", text); err != nil {
				return err
			}
		}
		return nil
	})
}

// choose returns the account that a command is for: the one that is named, or the only
// one. There is no default among several: a token of the wrong account would be used
// before somebody sees whose it is.
func (s *session) choose(ctx context.Context, name string) (tokencache.Account, error) {
	accounts, err := s.cache.Accounts(ctx)
	if err != nil {
		return tokencache.Account{}, err
	}
	var found []tokencache.Account
	for _, a := range accounts {
		if name == "" || strings.EqualFold(a.Username, name) || a.ID == name {
			found = append(found, a)
		}
	}
	switch {
	case len(accounts) == 0:
		return tokencache.Account{}, &failure{exit: exitSignIn, code: "sign_in_required", what: "Nobody is signed in.", hint: hintLogin}
	case len(found) == 0:
		return tokencache.Account{}, &failure{
			exit: exitSignIn, code: "sign_in_required", what: fmt.Sprintf("%s is not signed in.", printable(name)),
			hint: fmt.Sprintf("Signed in: %s. %s", listed(accounts), hintLogin),
		}
	case len(found) > 1:
		return tokencache.Account{}, &failure{
			exit: exitUsage, code: "several_accounts", what: "Several accounts are signed in.",
			hint: fmt.Sprintf("Choose one with --account: %s.", listed(found)),
		}
	}
	return found[0], nil
}

// listed names accounts: those that have one user name by their IDs.
func listed(accounts []tokencache.Account) string {
	count := make(map[string]int)
	for _, a := range accounts {
		count[strings.ToLower(a.Username)]++
	}
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = label(a)
		if count[strings.ToLower(a.Username)] > 1 {
			names[i] = printable(a.ID)
		}
	}
	return strings.Join(names, ", ")
}

// partition is where an account's tokens are.
func (s *session) partition(a tokencache.Account) *tokencache.Partition {
	return s.cache.Partition(tokencache.AccountKey(a.ID))
}

// printJSON prints the answer of a command with --json.
func (p *program) printJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.print("%s", b)
}
