package tokencache

import "testing"

// A refresh token that the server calls the family's is stored as such, whether it
// comes with a sign-in or a refresh, and the client is known to be one of the family.
func TestApplyFamily(t *testing.T) {
	t.Parallel()
	d := signedIn(t)
	c := refreshChange("A1", "R0", "F1", "read")
	c.grant.Family = familyID
	mustApply(t, d, c, testWriter(), testNow)
	fresh := &document{}
	in := signInChange("A1", "F1")
	in.grant.Family = familyID
	mustApply(t, fresh, in, testWriter(), testNow)
	for name, d := range map[string]*document{"refresh": d, "sign-in": fresh} {
		all := d.sections[refreshTokens]
		if len(all) != 1 || all[0].text(fieldFamily) != familyID || all[0].text(fieldSecret) != "F1" {
			t.Errorf("%s: %d refresh tokens, of the family %q", name, len(all), all[0].text(fieldFamily))
		}
		if all := d.sections[appMetadata]; len(all) != 1 || all[0].text(fieldFamily) != familyID {
			t.Errorf("%s: the client is not in the family", name)
		}
		rt, ok, err := mustSnapshot(t, d, testNow).refreshToken(testClient, testAccount)
		if rt != "F1" || !ok || err != nil {
			t.Errorf("%s: it is not the one to spend: %v, %v", name, ok, err)
		}
	}
	mustApply(t, d, refreshChange("A2", "F1", "F2", "read"), testWriter(), testNow)
	if it := d.sections[refreshTokens][0]; it.text(fieldFamily) != familyID || len(d.sections[appMetadata]) != 1 {
		t.Error("an answer that does not speak of the family ends the membership")
	}
}
