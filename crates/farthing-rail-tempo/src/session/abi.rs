//! The words that escrows are spoken to in: calls, answers, events and refusals.
//!
//! Two layouts of a channel's record and two widths of a top-up are in use for the first version of
//! Tempo's escrow: the one in the specification's appendix and the one that clients read. Both are read
//! here, and told apart by what they contain.

/// Version 1 of Tempo's sessions, and sessions on other EVM chains.
pub(crate) mod contract {
    alloy_sol_types::sol! {
        #[derive(Debug, PartialEq, Eq)]
        function approve(address spender, uint256 amount) returns (bool);
        function allowance(address owner, address spender) view returns (uint256);

        #[derive(Debug, PartialEq, Eq)]
        function open(
            address payee,
            address token,
            uint128 deposit,
            bytes32 salt,
            address authorizedSigner
        ) returns (bytes32);
        function openWithAuthorization(
            address payee,
            address token,
            uint128 deposit,
            bytes32 salt,
            address authorizedSigner,
            address from,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes signature
        ) returns (bytes32);
        function topUpWithAuthorization(
            bytes32 channelId,
            uint128 additionalDeposit,
            address from,
            bytes32 topUpSalt,
            uint256 validAfter,
            uint256 validBefore,
            bytes32 nonce,
            bytes signature
        );
        function settle(bytes32 channelId, uint128 cumulativeAmount, bytes signature);
        function close(bytes32 channelId, uint128 cumulativeAmount, bytes signature);
        function requestClose(bytes32 channelId);
        function withdraw(bytes32 channelId);
        function getChannel(bytes32 channelId) view;
        function getChannelsBatch(bytes32[] channelIds) view;
        function computeChannelId(
            address payer,
            address payee,
            address token,
            bytes32 salt,
            address authorizedSigner
        ) view returns (bytes32);
        function getVoucherDigest(bytes32 channelId, uint128 cumulativeAmount) view returns (bytes32);
        function domainSeparator() view returns (bytes32);
        function CLOSE_GRACE_PERIOD() view returns (uint64);

        event ChannelOpened(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            address token,
            address authorizedSigner,
            uint256 deposit
        );
        event Settled(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 cumulativeAmount,
            uint256 deltaPaid,
            uint256 newSettled
        );
        event CloseRequested(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 closeGraceEnd
        );
        event CloseRequestCancelled(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee
        );
        event TopUp(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 additionalDeposit,
            uint256 newDeposit
        );
        event ChannelClosed(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint256 settledToPayee,
            uint256 refundedToPayer
        );

        error ChannelAlreadyExists();
        error ChannelNotFound();
        error ChannelFinalized();
        error InvalidSignature();
        error AmountExceedsDeposit();
        error AmountNotIncreasing();
        error NotPayer();
        error NotPayee();
        error TransferFailed();
        error CloseNotReady();
        error NonceMismatch();
    }
}

/// A token whose holders sign for a transfer (EIP-3009).
pub(crate) mod authorized {
    alloy_sol_types::sol! {
        function name() view returns (string);
        function version() view returns (string);
        function authorizationState(address authorizer, bytes32 nonce) view returns (bool);

        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    }
}

/// A top-up as the specification writes it.
pub(crate) mod narrow {
    alloy_sol_types::sol! {
        #[derive(Debug, PartialEq, Eq)]
        function topUp(bytes32 channelId, uint128 additionalDeposit);
    }
}

/// A top-up as clients of the first escrow write it, and that escrow's event of an opening.
pub(crate) mod wide {
    alloy_sol_types::sol! {
        #[derive(Debug, PartialEq, Eq)]
        function topUp(bytes32 channelId, uint256 additionalDeposit);

        event ChannelOpened(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            address token,
            address authorizedSigner,
            bytes32 salt,
            uint256 deposit
        );
    }
}

/// Version 2 of Tempo's sessions: the reserve that is part of the chain (TIP-1034).
pub(crate) mod reserve {
    alloy_sol_types::sol! {
        #[derive(Debug, PartialEq, Eq)]
        struct ChannelDescriptor {
            address payer;
            address payee;
            address operator;
            address token;
            bytes32 salt;
            address authorizedSigner;
            bytes32 expiringNonceHash;
        }
        struct ChannelState {
            uint96 settled;
            uint96 deposit;
            uint32 closeRequestedAt;
        }

        #[derive(Debug, PartialEq, Eq)]
        function open(
            address payee,
            address operator,
            address token,
            uint96 deposit,
            bytes32 salt,
            address authorizedSigner
        ) returns (bytes32);
        #[derive(Debug, PartialEq, Eq)]
        function topUp(ChannelDescriptor descriptor, uint96 additionalDeposit);
        function settle(ChannelDescriptor descriptor, uint96 cumulativeAmount, bytes signature);
        function close(
            ChannelDescriptor descriptor,
            uint96 cumulativeAmount,
            uint96 captureAmount,
            bytes signature
        );
        function requestClose(ChannelDescriptor descriptor);
        function withdraw(ChannelDescriptor descriptor);
        function getChannelStatesBatch(bytes32[] channelIds) view returns (ChannelState[]);

        event ChannelOpened(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            address operator,
            address token,
            address authorizedSigner,
            bytes32 salt,
            bytes32 expiringNonceHash,
            uint96 deposit
        );
        event Settled(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint96 cumulativeAmount,
            uint96 deltaPaid,
            uint96 newSettled
        );
        event TopUp(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint96 additionalDeposit,
            uint96 newDeposit
        );
        event ChannelClosed(
            bytes32 indexed channelId,
            address indexed payer,
            address indexed payee,
            uint96 settledToPayee,
            uint96 refundedToPayer
        );

        error NotPayeeOrOperator();
        error CaptureAmountInvalid();
    }
}
