// Package legacy reads and writes the token caches that Microsoft's libraries
// wrote before the unified schema, for applications that take over the users of
// an older one ([Read]), or share a store with it for a while ([Dual]).
//
// # Unified
//
// What [tokencache.Tokens] reads and writes itself: a JSON object, which MSAL.NET
// calls "MSAL v3" (TokenCacheJsonSerializer.cs there).
//
// # MSAL v2
//
// A JSON array of four lists (MSAL.NET: Cache/TokenCacheDictionarySerializer.cs):
//
//	[
//	  {"Key": "access_tokens",  "Value": ["{\"home_account_id\":\"…\", …}", …]},
//	  {"Key": "refresh_tokens", "Value": […]},
//	  {"Key": "id_tokens",      "Value": […]},
//	  {"Key": "accounts",       "Value": […]}
//	]
//
// Each string is the JSON text of one item, with the fields of the unified schema.
// A list that is missing is empty, and one of another name is ignored.
//
// Written are all items but those whose readers would take them for others: access
// tokens that are no plain bearer tokens, and whatever was obtained with more
// parameters than scopes (a resource, claims), which the format's keys do not
// tell apart. What is known of clients (AppMetadata), and members of the document
// that this library does not know, have no place in it.
//
// # ADAL v3
//
// A binary file, little-endian, as .NET's BinaryWriter makes it (MSAL.NET:
// Cache/AdalCacheOperations.cs and Cache/Adal; ADAL.NET: TokenCache.cs):
//
//	int32    3, the version of the format
//	int32    the number of entries
//	entries  two strings each: the key and the value; nothing follows the last
//
//	string   its length in bytes as an unsigned LEB128 number of at most 5 bytes,
//	         and so many bytes of UTF-8
//
//	key      authority ":::" resource ":::" client ID ":::" subject type,
//	         the latter 0 for a user, 1 for a client, 2 for a user of a
//	         confidential client
//	value    {"Result": {"UserInfo": {"UniqueId", "DisplayableId", "GivenName",
//	         "FamilyName", …}, "TenantId", "ExpiresOn", "AccessToken", "IdToken",
//	         …}, "RawClientInfo", "RefreshToken", "ResourceInResponse",
//	         "UserAssertionHash"}
//
// Read are, as MSAL.NET does, refresh tokens and what is known of their users.
// Access tokens stay behind: they were asked for by resource, in an older version
// of the protocol, and a refresh brings one for the scopes that are asked for. So
// do ID tokens, whose claims are the older version's. The account ID is the one in
// RawClientInfo; ADAL.NET 3 kept none, and it is then UniqueId "." TenantId, which is
// the right one but for guests in a foreign directory. Entries of clients, and those
// that name no user by ID, are passed over. Where several entries have a refresh token
// of one user and client, whatever the host of their authority, the one whose access
// token ends last is taken; those without a date come after it, the last one first.
//
// Written is what MSAL.NET writes: for each refresh token its user's UniqueId and
// DisplayableId, RawClientInfo and ResourceInResponse. The resource is the scopes of
// the newest access token. The subject type, by which ADAL looks, is the one that the
// client had when it was read, kept as the field adal_subject_type of its AppMetadata
// item; else 0, as MSAL.NET has it. Refresh tokens of a family, of an incoming assertion or with further
// parameters are not written, nor those of Azure AD B2C. The format is for users of
// Microsoft Entra ID and AD FS: elsewhere account IDs may not survive it.
package legacy
