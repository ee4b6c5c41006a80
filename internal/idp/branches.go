package idp

import "crypto/rand"

// maxBranchDepth bounds how many branches grow out of one another, and with it
// every walk from a branch to its sign-in.
const maxBranchDepth = 8

// A branch is what an API obtained on behalf of a user together with a refresh
// token of its own. Inside the family of the user's sign-in it rotates by
// itself, and it ends with the family. The API may give up its branch and end
// nothing else; but a refresh token of a branch that is used twice ends the
// whole family, as one of the family itself does.

// exchange is a request to go on from a user's access token.
type exchange struct {
	familyID string // of the token
	clientID string // who exchanges it
	scopes   []string
	resource string
	offline  bool // a refresh token is wanted, so a branch is needed
}

// exchange returns the session of the tokens that an exchange brings. Its family
// is a new branch, or with no refresh token that of the token exchanged.
func (st *store) exchange(x exchange) (session, *oauthError) {
	st.mu.Lock()
	defer st.mu.Unlock()
	f, ok := st.families.get(x.familyID)
	if !ok || !st.aliveLocked(x.familyID) {
		return session{}, invalidGrant(50173, errTokenRevoked.Error())
	}
	if f.depth >= maxBranchDepth {
		return session{}, invalidGrant(50013, "the token is the result of too many exchanges")
	}
	if claims, ok := st.demands.get(f.session.user.key); ok {
		return session{}, interactionRequired(claims)
	}
	if e := st.checkConsentLocked(f.session.user, x.clientID, x.resource, x.scopes); e != nil {
		return session{}, e
	}
	st.touchLocked(x.familyID)
	sess := f.session
	sess.clientID, sess.scopes, sess.resource, sess.nonce = x.clientID, x.scopes, x.resource, ""
	if x.offline {
		sess.familyID = marker + rand.Text()
		st.families.put(sess.familyID, &family{session: sess, parent: x.familyID, depth: f.depth + 1})
	}
	return sess, nil
}

// aliveLocked reports whether a family and all that it grew from are good.
func (st *store) aliveLocked(familyID string) bool {
	for {
		f, ok := st.families.get(familyID)
		if !ok || f.revoked {
			return false
		}
		if f.parent == "" {
			return true
		}
		familyID = f.parent
	}
}

// rootLocked returns the family of the sign-in that a branch belongs to.
func (st *store) rootLocked(familyID string) string {
	for {
		f, ok := st.families.get(familyID)
		if !ok || f.parent == "" {
			return familyID
		}
		familyID = f.parent
	}
}

// touchLocked gives a family and all that it grew from a full lifetime again:
// whoever uses a branch uses the sign-in.
func (st *store) touchLocked(familyID string) {
	for familyID != "" {
		f, ok := st.families.get(familyID)
		if !ok {
			return
		}
		st.families.touch(familyID)
		familyID = f.parent
	}
}
