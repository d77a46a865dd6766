// A certificate and keys for tests of options that name PEM files. They are known to everybody: good for nothing else.

/** Self-signed, for localhost. */
export const certificate = `-----BEGIN CERTIFICATE-----
MIIBfzCCASWgAwIBAgIUcyf1VIyyyveghwuYjaXzipxAJhkwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjIwMDU1MFoYDzIxMjYxMDI5
MjAwNTUwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAASbZfDVCQhdcpHM8Nc/xjQy8DOk6GwzlEZFh/GnMJDcPlpc+OYA3f/U
OCia3LW1e1Mj6TYLqf1qONHcHuDO8PrBo1MwUTAdBgNVHQ4EFgQUT+nsZp68mX86
4SYrzWksRb+DXVQwHwYDVR0jBBgwFoAUT+nsZp68mX864SYrzWksRb+DXVQwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiBk9u7t4GHeecSQODn4AfvQ
iZHBrlGig+E7matyx5LMwgIhAMyjKjFcsZWzBiG39E/yZjClAXBAjgnzKrzU/iZ6
FVgW
-----END CERTIFICATE-----
`;

/** The private key of the certificate. */
export const privateKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg+W16jIKWvmkKnfx4
TUNwTOti+aIpAp5hhu6pElL8NlGhRANCAASbZfDVCQhdcpHM8Nc/xjQy8DOk6Gwz
lEZFh/GnMJDcPlpc+OYA3f/UOCia3LW1e1Mj6TYLqf1qONHcHuDO8PrB
-----END PRIVATE KEY-----
`;
