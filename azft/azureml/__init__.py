"""Everything that speaks to an Azure ML workspace: finding it, signing in, uploading, submitting, watching, explaining.

It stands on Azure's own SDK (azure-ai-ml, azure-identity, azure-storage-blob) and knows the service only as an address.
The SDK is imported inside functions, because it takes more than a second; and whatever is used of its private names is
pinned by tests/azureml/test_sdk_contract.py.
"""
