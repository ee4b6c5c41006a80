package main

import (
	"context"
	"errors"

	"github.com/coatcheck-go/coatcheck/tokencache"
)

type logoutCmd struct {
	oneAccount
	All bool `help:"Sign all accounts out." xor:"who"`
}

// Run signs out. Tokens on this machine are removed whatever the server says.
func (c *logoutCmd) Run(ctx context.Context, p *program) error {
	if c.All && c.Account != "" {
		return &failure{exit: exitUsage, code: "usage", what: "--all and --account cannot be used together.", hint: "Choose one."}
	}
	return p.with(ctx, func(s *session) error {
		accounts, err := s.leaving(ctx, c)
		if err != nil {
			return err
		}
		var untold error
		if len(accounts) > 0 {
			untold = s.connect(ctx)
		}
		for _, a := range accounts {
			err := s.signOut(ctx, s.partition(a))
			server := (*tokencache.ServerError)(nil)
			if errors.As(err, &server) && !errors.Is(err, tokencache.ErrUnavailable) {
				untold = err
			} else if err != nil {
				return err
			}
		}
		return s.signedOut(ctx, accounts, untold)
	})
}

// leaving are the accounts that are signed out. Nobody is no mistake: then it is done.
func (s *session) leaving(ctx context.Context, c *logoutCmd) ([]tokencache.Account, error) {
	accounts, err := s.cache.Accounts(ctx)
	if err != nil || c.All || len(accounts) == 0 && c.Account == "" {
		return accounts, err
	}
	a, err := s.choose(ctx, c.Account)
	return []tokencache.Account{a}, err
}

// signOut removes an account's tokens, and has the server revoke them if there is one.
func (s *session) signOut(ctx context.Context, p *tokencache.Partition) error {
	if s.client == nil {
		return p.SignOut(ctx, nil)
	}
	return s.client.SignOut(tokencache.NewContext(ctx, p))
}

// signedOut tells what was done. A local server that has ended has revoked everything.
func (s *session) signedOut(ctx context.Context, accounts []tokencache.Account, untold error) error {
	if untold != nil && !errors.Is(untold, errNotRunning) {
		f := s.explain(ctx, untold)
		return &failure{
			exit: f.exit, code: f.code, err: untold,
			what: "Signed out here: " + listed(accounts) + ". But the server was not told: " + f.what,
			hint: "Until they end, tokens that somebody has copied stay good. Revoke them at the server if that matters.",
		}
	}
	if s.JSON {
		list := make([]account, len(accounts))
		for i, a := range accounts {
			list[i] = described(a)
		}
		return s.printJSON(struct {
			SignedOut []account `json:"signed_out"`
		}{list})
	}
	if len(accounts) == 0 {
		s.ui.say("Nobody was signed in.")
		return nil
	}
	return s.print("Signed out: %s.", listed(accounts))
}
